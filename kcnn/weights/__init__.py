"""Weights from elsewhere: keras.applications' ImageNet weights, built models, files. No file can execute anything."""

from pathlib import Path
from typing import Any

import keras

from kcnn.errors import UserError
from kcnn.weights.copy import copy_weights
from kcnn.weights.files import load_file, save_weights
from kcnn.weights.imagenet import find_imagenet, load_imagenet

__all__ = ["copy_weights", "find_imagenet", "load_weights", "save_weights"]


def load_weights(model: keras.Model, source: Any, *, offline: bool = False) -> list[str]:
    """Gives `model` the weights of `source`.

    Args:
        model: of `create_model`.
        source: "imagenet"; a file: `.safetensors` of `save_weights`, `.weights.h5` or `.keras` of Keras, `.h5` of
            keras.applications; or a built keras.applications model.
        offline: for "imagenet": only what is cached.

    Returns:
        the layers of the classifier head that keep their own weights, because their shapes differ.

    Raises:
        UserError: not to be had, damaged, or of another architecture; `model` is as it was.
    """
    if isinstance(source, keras.Model):
        return copy_weights(source, model)
    if source == "imagenet":
        return load_imagenet(model, offline=offline)
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"weights {str(source)!r}: expected 'imagenet' or a file, and there is no such file")
    return load_file(model, path)
