"""List the architectures: paper, cost, accuracy, weights.

python main.py models [--family resnet] [--max_params 10]
"""

import math

from absl import flags

from kcnn.terminal import print_lines
from pipelines.commands.shared.common_flags import define_json
from pipelines.commands.shared.tensorflow import load_tensorflow

FLAGS = flags.FlagValues()
flags.DEFINE_string("family", None, "Only those of this family.", flag_values=FLAGS)
flags.DEFINE_float("max_params", math.inf, "Only those of at most this many million parameters.", flag_values=FLAGS)
flags.DEFINE_float(
    "max_macs", math.inf, "Only those of at most this many billion multiply-adds an image.", flag_values=FLAGS
)
define_json(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Print the architectures with these names, or all, within the limits; return 0."""
    load_tensorflow()
    from kcnn.models import catalogue

    specs = catalogue.choose(arguments, values.family, max_params=values.max_params, max_macs=values.max_macs)
    print_lines(*(catalogue.json_lines(specs) if values.json else catalogue.table(specs)))
    return 0
