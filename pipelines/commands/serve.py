"""Serve models with TensorFlow Serving's APIs, and a page.

python main.py serve mobilenetv2

The server ends at SIGTERM or Ctrl-C.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags

from kcnn.errors import UserError
from kcnn.serving.server.settings import FLAG_FIELDS, Settings
from pipelines.commands.shared.common_flags import define_runtime, define_saved_models
from pipelines.commands.shared.tensorflow import load_tensorflow

DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}

FLAGS = flags.FlagValues()
define_saved_models(FLAGS)
flags.DEFINE_string("model_name", None, "The model's name in requests. (default: the argument)", flag_values=FLAGS)
flags.DEFINE_string(
    "model_base_path",
    None,
    "The folder of its versions, the newest of which is served. (default: that of its name in --saved_models)",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "model_config_file",
    None,
    "TensorFlow Serving's models.config instead: several models, versions, labels.",
    flag_values=FLAGS,
)
for field in FLAG_FIELDS:
    DEFINE[type(field.default)](field.name, field.default, field.metadata["help"], flag_values=FLAGS)
define_runtime(FLAGS)


def run(arguments: list[str], values: flags.FlagValues) -> int:
    """Answer requests until SIGTERM or Ctrl-C; return 0."""
    name = arguments[0] if arguments else values.model_name
    if len(arguments) > 1 or (name is None) == (values.model_config_file is None):
        raise UserError("serve: expected a model's name or --model_config_file FILE, as in: serve mobilenetv2")
    from kcnn.serving.prediction import runtimes
    from kcnn.serving.publishing import versions
    from kcnn.serving.server import check_installed

    check_installed()
    runtimes.check_runtime(values.runtime)
    from kcnn.serving.server import models_config

    if values.model_config_file is not None:
        served = models_config.read_models_config(values.model_config_file)
    else:
        folder = values.model_base_path or versions.model_folder(name, values.saved_models)
        served = (models_config.served_folder(values.model_name or Path(name).name, folder),)
    given: dict[str, Any] = {field.name: values[field.name].value for field in FLAG_FIELDS}
    settings = Settings(served, values.runtime, **given)
    load_tensorflow()
    from kcnn.serving.server import process

    process.serve(settings)
    return 0
