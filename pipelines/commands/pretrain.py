"""Make weights to start from, of images that formulas draw.

python main.py pretrain --model mobilenetv2

With --objective rotation, it learns from a folder of pictures without labels. With --objective distill, it learns the
answers of a model with ImageNet weights to crops of such pictures:

python main.py pretrain --model mobilenetv2 --objective distill --teacher efficientnetlite2
"""

from absl import flags

from kcnn.errors import UserError
from kcnn.recipes import distill, pretrain
from pipelines.commands.shared import dataset_flags, run_flags, training_flags
from pipelines.commands.shared.common_flags import define_pipeline_root
from pipelines.commands.shared.tensorflow import load_tensorflow

DEFAULTS, DISTILLING = pretrain(), distill()

FLAGS = flags.FlagValues()
dataset_flags.define_dataset(FLAGS, DEFAULTS.dataset)
flags.DEFINE_string(
    "objective",
    None,
    f"classes; rotation or distill, which need no labels. (default: {DEFAULTS.objective})",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "teacher",
    None,
    "With --objective distill: the model whose answers are learned, such as efficientnetlite2.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "teacher_weights",
    None,
    f"Of the teacher: imagenet or a file. (default: {DEFAULTS.teacher_weights})",
    flag_values=FLAGS,
)
flags.DEFINE_float(
    "temperature",
    None,
    f"By which the teacher's answers are softened. (default: {DEFAULTS.temperature:g})",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "crops", None, f"With --objective distill: an epoch's crops. (default: {DEFAULTS.crops})", flag_values=FLAGS
)
training_flags.define_training(FLAGS)
flags.DEFINE_string("recipe", None, f"How to train. (default: {DEFAULTS.recipe})", flag_values=FLAGS)
define_pipeline_root(FLAGS)
run_flags.define_part(FLAGS)
run_flags.define_resume(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Train a backbone and write its weights; return 0."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags begin with --; see python main.py --help")
    defaults = DISTILLING if values.objective == DISTILLING.objective else DEFAULTS
    config = training_flags.read_config(values, values.recipe or defaults.recipe)
    load_tensorflow()
    from pipelines.graphs import pretraining

    job = pretraining.PretrainingJob(
        config=config,
        resume=values.resume,
        **run_flags.job_fields(values),
        **run_flags.part_fields(values),
    )
    pretraining.run(job)
    return 0
