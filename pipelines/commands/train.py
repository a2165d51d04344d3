"""Train on a data set and publish the network to saved_models/.

python main.py --model mobilenetv2 --finetune

This is the main job, and the command of a command line that names none.
"""

from absl import flags

from kcnn.config import Config
from kcnn.errors import UserError
from pipelines.commands.shared import dataset_flags, publication_flags, run_flags, training_flags
from pipelines.commands.shared.common_flags import define_pipeline_root
from pipelines.commands.shared.tensorflow import load_tensorflow

FLAGS = flags.FlagValues()
dataset_flags.define_dataset(FLAGS, Config.dataset)
dataset_flags.define_schema(FLAGS)
training_flags.define_training(FLAGS)
training_flags.define_recipe(FLAGS)
flags.DEFINE_integer(
    "tune",
    0,
    "Try this many settings first, of learning rate, weight decay, label smoothing, batch size, augmentation, as far "
    "as no flag gives them, and train with the best. (2 or more; 0 for none)",
    flag_values=FLAGS,
)
flags.DEFINE_string("name", None, "Name to publish under. (default: the model's)", flag_values=FLAGS)
publication_flags.define_publication(FLAGS)
define_pipeline_root(FLAGS)
run_flags.define_part(FLAGS)
run_flags.define_resume(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Train, evaluate, export and publish; return 0."""
    if arguments:
        raise UserError(f"unexpected argument {arguments[0]!r}: flags begin with --; see python main.py --help")
    config = training_flags.read_config(values, training_flags.read_recipe(values))
    load_tensorflow()
    from kcnn.models.spec import model_spec
    from pipelines.graphs import image_classification
    from pipelines.graphs.model_choice import settle_model

    config = settle_model(config, values.max_latency_ms)
    name = values.name or model_spec(config.model).name
    job = image_classification.TrainingJob(
        config=config,
        publication=publication_flags.read_publication(values, name, values.saved_models),
        schema=values.schema,
        tune=values.tune,
        resume=values.resume,
        **run_flags.job_fields(values),
        **run_flags.part_fields(values),
    )
    image_classification.run(job)
    return 0
