"""Weights from elsewhere: ImageNet weights, starters, built models, files. No file can execute anything."""

import os
from pathlib import Path

import keras

from kcnn.errors import UserError
from kcnn.models.spec import ModelSpec, model_spec
from kcnn.nn.keras_settings import needed_settings
from kcnn.weights.copy import LoadReport, copy_weights
from kcnn.weights.designs import check_default_design
from kcnn.weights.files import load_file, save_weights
from kcnn.weights.hub import describe_hub_file, find_hub_file, load_hub
from kcnn.weights.hub_names import is_hub_source
from kcnn.weights.imagenet import describe_package, find_imagenet, find_package, install_hint, load_imagenet
from kcnn.weights.starter import find_starter, load_starter, save_backbone

__all__ = [
    "LoadReport",
    "copy_weights",
    "describe_weights",
    "find_imagenet",
    "find_pretrained",
    "find_starter",
    "find_weights_file",
    "install_hint",
    "load_weights",
    "save_backbone",
    "save_weights",
]


def find_pretrained(spec: ModelSpec, *, offline: bool) -> list[str]:
    """Return which of "imagenet" and "starter" can be had for an architecture, the better first.

    Args:
        spec: of the architecture.
        offline: look on this machine only; otherwise ImageNet weights are fetched where that is possible.
    """
    found = {"imagenet": find_imagenet(spec, offline=offline), "starter": find_starter(spec.name)}
    return [source for source, path in found.items() if path is not None]


def find_weights_file(source: str, model: str) -> Path | None:
    """Return the file that `source` names, as `load_weights` takes it; None for what cannot change under its name.

    Args:
        source: of a file, "starter", "imagenet" of an installed package, or cached of the hub.
        model: the architecture's name.
    """
    if is_hub_source(source):
        return find_hub_file(source, model)
    named = {"starter": lambda: find_starter(model), "imagenet": lambda: find_package(model_spec(model))}
    path = named[source]() if source in named else Path(source)
    return path if path is not None and path.is_file() else None


def describe_weights(source: str | None, model: str) -> dict[str, str]:
    """Return what a card says of where weights are from: the package or the repository, version, checksum, licence.

    Args:
        source: as `load_weights` takes it; None for random weights.
        model: the architecture's name.

    Returns:
        of `describe_package` or `describe_hub_file`; {} for others.
    """
    if source == "imagenet":
        return describe_package(model_spec(model))
    return describe_hub_file(source, model) if source is not None and is_hub_source(source) else {}


@needed_settings()
def load_weights(
    model: keras.Model, source: str | os.PathLike[str] | keras.Model, *, offline: bool = False
) -> LoadReport:
    """Give `model` the weights of `source`.

    Args:
        model: of `create_model`.
        source: "imagenet", of an installed package (`spec.package`) or of keras.applications; "starter", which ships
            with the project (`kcnn.weights.starter`); "timm:NAME", "torchvision:NAME" or "hf://OWNER/NAME", from the
            hub (`kcnn.weights.hub`); a file: `.safetensors` of `save_weights`, `.weights.h5` or `.keras` of Keras,
            `.h5` of keras.applications, `.safetensors` or `.pth` of torch networks (`spec.torch` names them); or a
            built keras.applications model. A `.weights.h5` does not say for which design it is: the report names what
            could not be checked.
        offline: for "imagenet" and the hub: only what is installed or cached.

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
    if is_hub_source(source):
        return load_hub(model, str(source), offline=offline)
    path = Path(source).expanduser()
    if not path.is_file():
        raise UserError(
            f"weights {str(source)!r}: expected 'imagenet', 'starter', timm:NAME, torchvision:NAME, hf://OWNER/NAME or "
            "a file, and there is no such file"
        )
    return load_file(model, path)
