"""Suggest a learning rate for a training, by training for some steps while the rate rises.

python main.py find_rate --dataset photos/ --model mobilenetv2

It takes the flags of train, so that what is measured is what is trained. Only the training images are read, and the
weights are thrown away. The picture shows the loss against the rate.
"""

from absl import flags

from kcnn.config import Config
from kcnn.errors import UserError
from pipelines.commands.shared import dataset_flags, run_flags, training_flags
from pipelines.commands.shared.common_flags import define_pipeline_root
from pipelines.commands.shared.tensorflow import load_tensorflow

FLAGS = flags.FlagValues()
dataset_flags.define_dataset(FLAGS, Config.dataset)
training_flags.define_training(FLAGS)
training_flags.define_recipe(FLAGS)
flags.DEFINE_integer("steps", 200, "Steps over which the rate rises, 20 or more.", flag_values=FLAGS)
define_pipeline_root(FLAGS)
run_flags.define_part(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Search, and print the suggestion; return 0."""
    if arguments:
        raise UserError(f"find_rate: unexpected argument {arguments[0]!r}; expected --dataset DIR --model NAME")
    recipe = training_flags.read_recipe(values)
    if values.model == "auto":
        raise UserError("--model auto: expected an architecture's name, as in find_rate --model mobilenetv2")
    config = training_flags.read_config(values, recipe)
    load_tensorflow()
    from kcnn.terminal import print_lines
    from pipelines.graphs import rate_finding

    job = rate_finding.RateJob(
        config=config, steps=values.steps, **run_flags.job_fields(values), **run_flags.part_fields(values)
    )
    found = rate_finding.run(job)
    if found is not None:
        rate = found.suggested()
        own = config.phases[-1].learning_rate
        print_lines(
            "", f"Suggested: --learning_rate {rate:.2g} (without the flag it is {own:.3g})", f"Plot: {found.plot}"
        )
    return 0
