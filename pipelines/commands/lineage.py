"""Show what made a model: data, code, parameters, weights.

python main.py lineage saved_models/mobilenetv2/3

Any other artifact's folder may stand in the place of a published version.
"""

from pathlib import Path

from absl import flags

from kcnn.errors import UserError
from kcnn.tables import json_document
from kcnn.terminal import print_lines
from pipelines.commands.shared.common_flags import define_json, define_pipeline_root

FLAGS = flags.FlagValues()
define_pipeline_root(FLAGS)
flags.DEFINE_string("drawing", None, "An SVG file to draw it in.", flag_values=FLAGS)
define_json(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Print, and with --drawing draw, the lineage of a folder; return 0."""
    if len(arguments) != 1:
        raise UserError("lineage: expected one folder, as in: lineage saved_models/mobilenetv2/3")
    from pipelines.reports.drawing import draw_lineage
    from pipelines.reports.lineage import find_lineage, format_lineage

    found = find_lineage(Path(values.pipeline_root), Path(arguments[0]))
    if values.drawing is not None:
        try:
            Path(values.drawing).write_text(draw_lineage(found), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--drawing {values.drawing}: cannot be written: {error.strerror}") from None
    print_lines(*(json_document(found) if values.json else format_lineage(found)))
    return 0
