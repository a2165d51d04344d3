"""List the runs of the pipeline, or what differs between two.

python main.py runs [3 5]
"""

from pathlib import Path

from absl import flags

from kcnn.errors import UserError
from kcnn.tables import json_document, json_line
from kcnn.terminal import print_lines
from pipelines.commands.shared.common_flags import define_json, define_pipeline_root

FLAGS = flags.FlagValues()
define_pipeline_root(FLAGS)
define_json(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Print the runs, or the differences between two of them; return 0."""
    if len(arguments) not in (0, 2) or not all(number.isdecimal() for number in arguments):
        raise UserError("runs: expected nothing, or the numbers of two runs, as in: runs 3 5")
    from pipelines.reports.runs import compare_runs, format_comparison, format_runs, list_runs

    root = Path(values.pipeline_root)
    if not arguments:
        rows = list_runs(root)
        print_lines(*(map(json_line, rows) if values.json else format_runs(rows)))
        return 0
    numbers = int(arguments[0]), int(arguments[1])
    differences = compare_runs(root, numbers)
    print_lines(*(json_document(differences) if values.json else format_comparison(differences, numbers)))
    return 0
