"""Draw what a network will see of a data set: augmented images with their labels.

python main.py preview --dataset photos/ --augment 'flip,randaugment(n=3),cutmix'
"""

from absl import flags

from kcnn.config import Config
from kcnn.errors import UserError
from pipelines.commands.shared import dataset_flags, run_flags, training_flags
from pipelines.commands.shared.common_flags import define_pipeline_root
from pipelines.commands.shared.tensorflow import load_tensorflow

_MOST = 240

FLAGS = flags.FlagValues()
dataset_flags.define_dataset(FLAGS, Config.dataset)
training_flags.define_training(FLAGS)
flags.DEFINE_string("recipe", None, "Whose images to draw: scratch, finetune. (default: scratch)", flag_values=FLAGS)
flags.DEFINE_string("output", "preview.png", "The PNG to write.", flag_values=FLAGS)
flags.DEFINE_integer("images", 24, f"How many images to draw, 1 to {_MOST}.", flag_values=FLAGS)
define_pipeline_root(FLAGS)
run_flags.define_part(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Draw the picture; return 0."""
    if arguments:
        raise UserError(f"preview: unexpected argument {arguments[0]!r}; expected preview --dataset DIR --augment flip")
    if not 1 <= values.images <= _MOST:
        near = min(max(values.images, 1), _MOST)
        raise UserError(f"--images {values.images}: expected 1 to {_MOST}; the nearest is {near}")
    config = training_flags.read_config(values, values.recipe or "scratch")
    load_tensorflow()
    from pipelines.graphs import previewing

    previewing.run(
        previewing.PreviewJob(
            config=config,
            output=values.output,
            images=values.images,
            **run_flags.job_fields(values),
            **run_flags.part_fields(values),
        )
    )
    return 0
