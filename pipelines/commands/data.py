"""Show what is in a data set, and what in it hurts a classifier.

python main.py data --dataset photos/
"""

from absl import flags

from kcnn.config import Config
from kcnn.errors import UserError
from pipelines.commands.shared import dataset_flags, run_flags
from pipelines.commands.shared.common_flags import define_pipeline_root
from pipelines.commands.shared.tensorflow import load_tensorflow

FLAGS = flags.FlagValues()
dataset_flags.define_dataset(FLAGS, Config.dataset)
dataset_flags.define_schema(FLAGS)
define_pipeline_root(FLAGS)
run_flags.define_part(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Ingest, measure and scan the data set; print the findings; return 0."""
    if arguments:
        raise UserError(f"data: unexpected argument {arguments[0]!r}; expected data --dataset DIR")
    load_tensorflow()
    from pipelines.graphs import data

    job = data.Job(
        dataset=values.dataset,
        data_dir=values.data_dir,
        offline=values.offline,
        schema=values.schema,
        **run_flags.job_fields(values),
        **run_flags.part_fields(values),
    )
    data.run(job)
    return 0
