"""Publish the same network in another form, as the next version.

python main.py export mobilenetv2 --formats onnx

The network is tested anew with the data that it was trained on. Nothing is trained.
"""

from absl import flags

from kcnn.errors import UserError
from pipelines.commands.shared import publication_flags, run_flags
from pipelines.commands.shared.common_flags import define_pipeline_root
from pipelines.commands.shared.tensorflow import load_tensorflow

FLAGS = flags.FlagValues()
publication_flags.define_publication(FLAGS)
define_pipeline_root(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Export, evaluate and publish the network of a version again; return 0."""
    if len(arguments) != 1:
        raise UserError("export: expected a model's name or a version, as in: export saved_models/mobilenetv2/3")
    from kcnn.serving.publishing import versions

    version = versions.find_saved_model(versions.model_folder(arguments[0], values.saved_models))
    load_tensorflow()
    from pipelines.graphs import export

    publication = publication_flags.read_publication(values, version.parent.name, str(version.parent.parent))
    export.run(export.ExportJob(version=version, publication=publication, **run_flags.job_fields(values)))
    return 0
