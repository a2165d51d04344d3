"""List the runs of the pipeline, or what differs between two.

python main.py runs [3 5]
"""

import json
from pathlib import Path

from absl import flags

from kcnn.errors import UserError
from pipelines.commands.shared.common_flags import define_json, define_pipeline_root

FLAGS = flags.FlagValues()
define_pipeline_root(FLAGS)
define_json(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Print the runs, or the differences between two of them; return 0."""
    if len(arguments) not in (0, 2) or not all(number.isdecimal() for number in arguments):
        raise UserError("runs: expected nothing, or the numbers of two runs, as in: runs 3 5")
    from pipelines.reports import lineage

    root = Path(values.pipeline_root)
    if not arguments:
        rows = lineage.runs(root)
        print("\n".join(map(json.dumps, rows)) if values.json else lineage.table(rows))
        return 0
    numbers = int(arguments[0]), int(arguments[1])
    differences = lineage.compare(root, numbers)
    print(json.dumps(differences, indent=2) if values.json else lineage.comparison(differences, numbers))
    return 0
