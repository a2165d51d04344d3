"""Choose the version of a label, which clients ask for.

python main.py label mobilenetv2 stable=3 canary=4

The labels are stable and canary. LABEL=highest goes with the newest version. Without a label, the versions are shown.
"""

from absl import flags

from kcnn.errors import UserError
from pipelines.commands.shared.common_flags import define_saved_models

FLAGS = flags.FlagValues()
define_saved_models(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Put the labels on the versions and print the versions; return 0."""
    if not arguments:
        raise UserError("label: expected a model's name, as in: label mobilenetv2")
    from kcnn.serving.publishing import release, versions

    release.label_versions(
        versions.published_folder(versions.model_folder(arguments[0], values.saved_models)), arguments[1:]
    )
    return 0
