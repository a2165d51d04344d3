"""Serve an earlier version again.

python main.py rollback mobilenetv2 3

A copy of the version is published under the next number. Nothing is removed.
"""

from absl import flags

from kcnn.errors import UserError
from pipelines.commands.shared.common_flags import define_saved_models
from pipelines.commands.shared.run_flags import called_as

FLAGS = flags.FlagValues()
define_saved_models(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Publish the copy and print the versions; return 0."""
    from kcnn.serving.publishing import release, versions

    number = versions.version_number(arguments[1]) if len(arguments) == 2 else None
    if number is None:
        raise UserError("rollback: expected a model's name and a version, as in: rollback mobilenetv2 3")
    folder = versions.published_folder(versions.model_folder(arguments[0], values.saved_models))
    release.roll_back(folder, number, called_as())
    return 0
