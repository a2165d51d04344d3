"""Rank backbones and their stages on a data set, before anything is trained.

python main.py probe --dataset photos/ --models efficientnetlite0,mobilenetv2

Each backbone runs once over the training and validation images. A head is solved on the frozen features of each of its
stages and judged by cross-validation. The test images are not looked at.
"""

import contextlib
import sys

from absl import flags

from kcnn.config import Config
from kcnn.errors import UserError
from kcnn.tables import json_line
from kcnn.terminal import print_lines
from pipelines.commands.shared import dataset_flags, run_flags
from pipelines.commands.shared.common_flags import define_json, define_pipeline_root
from pipelines.commands.shared.tensorflow import load_tensorflow

FLAGS = flags.FlagValues()
dataset_flags.define_dataset(FLAGS, Config.dataset)
flags.DEFINE_list(
    "models", [], "Architectures to compare. (default: those whose weights are on this machine)", flag_values=FLAGS
)
flags.DEFINE_integer(
    "image_size", None, "Height and width in pixels. (default: by the images and the architecture)", flag_values=FLAGS
)
define_json(FLAGS)
define_pipeline_root(FLAGS)
run_flags.define_part(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Probe, and print the ranking; return 0."""
    if arguments:
        raise UserError(f"probe: unexpected argument {arguments[0]!r}; expected probe --dataset DIR --models a,b,c")
    load_tensorflow()
    from pipelines.graphs import probing

    job = probing.ProbeJob(
        dataset=values.dataset,
        data_dir=values.data_dir,
        offline=values.offline,
        models=[name for name in values.models if name],
        image_size=values.image_size,
        **run_flags.job_fields(values),
        **run_flags.part_fields(values),
    )
    # With --json, the rows alone are on the standard output.
    with contextlib.redirect_stdout(sys.stderr) if values.json else contextlib.nullcontext():
        results = probing.run(job)
    if results is None:
        return 0
    ranked = probing.rank(results.read())
    if values.json:
        print_lines(*map(json_line, ranked))
        return 0
    print_lines("", *probing.describe_ranking(ranked), f"Plot: {results.plot}")
    return 0
