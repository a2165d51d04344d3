"""Weights from elsewhere: ImageNet weights, starters, built models, files. No file can execute anything."""

import os
from pathlib import Path

import keras

from kcnn.errors import UserError
from kcnn.weights.copy import LoadReport, copy_weights
from kcnn.weights.designs import check_default_design
from kcnn.weights.files import load_file, save_weights
from kcnn.weights.imagenet import describe_package, find_imagenet, find_package, install_hint, load_imagenet
from kcnn.weights.starter import find_starter, load_starter, save_backbone

__all__ = [
    "LoadReport",
    "copy_weights",
    "describe_package",
    "find_imagenet",
    "find_package",
    "find_starter",
    "install_hint",
    "load_weights",
    "save_backbone",
    "save_weights",
]


def load_weights(
    model: keras.Model, source: str | os.PathLike[str] | keras.Model, *, offline: bool = False
) -> LoadReport:
    """Give `model` the weights of `source`.

    Args:
        model: of `create_model`.
        source: "imagenet", of an installed package (`spec.package`) or of keras.applications; "starter", which ships
            with the project (`kcnn.weights.starter`); a file: `.safetensors` of `save_weights`, `.weights.h5` or
            `.keras` of Keras, `.h5` of keras.applications, `.safetensors` or `.pth` of torch networks (`spec.torch`
            names them); or a built keras.applications model. A `.weights.h5` does not say for which design it is: one
            warning names what cannot be checked.
        offline: for "imagenet": only what is installed or cached.

    Returns:
        what was loaded, and which layers of the classifier head keep their own weights because their shapes differ
        (other classes, another image size).

    Raises:
        UserError: the weights cannot be had, are damaged, or are for another architecture or design; `model` is as it
            was.
    """
    if isinstance(source, keras.Model):
        check_default_design(model, f"weights of {source.name} for {model.name}")
        return copy_weights(source, model)
    if source == "imagenet":
        return load_imagenet(model, offline=offline)
    if source == "starter":
        return load_starter(model)
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(f"weights {str(source)!r}: expected 'imagenet', 'starter' or a file, and there is no such file")
    return load_file(model, path)
