"""Show what made a model: data, code, parameters, weights.

python main.py lineage saved_models/mobilenetv2/3

Any other artifact's folder may stand in the place of a published version.
"""

import json
from pathlib import Path

from absl import flags

from kcnn.errors import UserError
from pipelines.commands.shared.common_flags import define_json, define_pipeline_root

FLAGS = flags.FlagValues()
define_pipeline_root(FLAGS)
flags.DEFINE_string("drawing", None, "An SVG file to draw it in.", flag_values=FLAGS)
define_json(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Print, and with --drawing draw, the lineage of a folder; return 0."""
    if len(arguments) != 1:
        raise UserError("lineage: expected one folder, as in: lineage saved_models/mobilenetv2/3")
    from pipelines.reports import drawing, lineage

    found = lineage.lineage(Path(values.pipeline_root), Path(arguments[0]))
    if values.drawing is not None:
        try:
            Path(values.drawing).write_text(drawing.svg(found), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--drawing {values.drawing}: cannot be written: {error.strerror}") from None
    print(json.dumps(found, indent=2) if values.json else lineage.tree(found))
    return 0
