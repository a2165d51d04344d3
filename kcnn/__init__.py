"""kcnn: convolutional image classifiers with TensorFlow and Keras.

    import kcnn
    model = kcnn.create_model("mobilenetv2", num_classes=10, input_size=96)
    answers = kcnn.load_classifier("saved_models/mobilenetv2").predict(["a.jpg"])

Nothing is imported before it is used: TensorFlow takes seconds to load. Keras, which it loads too, runs on TensorFlow
from here on, whatever `KERAS_BACKEND` and `~/.keras/keras.json` say.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING

from kcnn.version import __version__

if TYPE_CHECKING:
    from kcnn.models.factory import create_model
    from kcnn.models.macs import macs
    from kcnn.models.spec import list_models, model_spec
    from kcnn.serving.export.classifier import export_classifier
    from kcnn.serving.prediction.classifier import load_classifier
    from kcnn.weights import load_weights

_HOMES = {
    "create_model": "kcnn.models.factory",
    "list_models": "kcnn.models.spec",
    "model_spec": "kcnn.models.spec",
    "macs": "kcnn.models.macs",
    "load_weights": "kcnn.weights",
    "load_classifier": "kcnn.serving.prediction.classifier",
    "export_classifier": "kcnn.serving.export.classifier",
}

__all__ = [
    "__version__",
    "create_model",
    "export_classifier",
    "list_models",
    "load_classifier",
    "load_weights",
    "macs",
    "model_spec",
]

if (_keras := sys.modules.get("keras")) is not None and _keras.backend.backend() != "tensorflow":
    raise ImportError(f"kcnn needs Keras on TensorFlow, and it runs on {_keras.backend.backend()}: import kcnn first")
os.environ["KERAS_BACKEND"] = "tensorflow"


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'kcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the module, with those that are not imported yet."""
    return [*globals(), *_HOMES]
