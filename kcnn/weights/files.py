"""Weights files: the project's own safetensors, Keras' two formats, and what keras.applications downloads.

Only numbers are read, by layer and position; nothing in a file is called, imported or deserialised.
"""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kcnn.errors import UserError
from kcnn.models.factory import model_spec
from kcnn.weights.copy import copy_weights

_ENDINGS = (".safetensors", ".weights.h5", ".keras", ".h5")


def save_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Writes every weight of `model` as "layer/position/variable" to a `.safetensors` file, whole or not at all."""
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    tensors = {
        f"{layer.name}/{index}/{variable.name}": keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for index, variable in enumerate(layer.weights)
    }
    save_file(tensors, temporary)
    os.replace(temporary, path)


def load_file(model: keras.Model, path: Path) -> list[str]:
    """As `kcnn.load_weights`, from a file."""
    if not path.name.endswith(_ENDINGS):
        raise UserError(f"weights {str(path)!r}: expected a file ending in {', '.join(_ENDINGS)}")
    try:
        if path.name.endswith(".safetensors"):
            return _assign(model, _read_safetensors(path), path)
        if path.name.endswith(".keras"):
            with zipfile.ZipFile(path) as archive:
                return _assign(model, _read_h5(io.BytesIO(archive.read("model.weights.h5"))), path)
        if path.name.endswith(".weights.h5"):
            return _assign(model, _read_h5(path), path)
        return load_application(model, path)
    except (SafetensorError, zipfile.BadZipFile, KeyError, OSError) as error:
        raise UserError(f"weights {str(path)!r} cannot be read: {str(error).splitlines()[0]}") from None


def _read_safetensors(path: Path) -> dict[str, list[np.ndarray]]:
    arrays: dict[str, dict[int, np.ndarray]] = {}
    with safe_open(path, "numpy") as file:
        for key in file.keys():  # noqa: SIM118
            layer, _, rest = key.partition("/")
            index = rest.split("/")[0]
            if not index.isdecimal():
                raise UserError(f"weights {str(path)!r}: {key!r} is not one of kcnn's names, layer/position/variable")
            arrays.setdefault(layer, {})[int(index)] = file.get_tensor(key)
    return {layer: [found[index] for index in sorted(found)] for layer, found in arrays.items()}


def _read_h5(file: Any) -> dict[str, list[np.ndarray]]:
    """Of a `.weights.h5`: groups of numbered arrays, each with its layer's name. Links out of the file stay unread."""
    arrays: dict[str, list[np.ndarray]] = {}

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and path.startswith("layers/") and "name" in item.attrs:
            numbered = sorted((int(key), value) for key, value in item.items() if key.isdecimal())
            arrays[str(item.attrs["name"])] = [np.asarray(value) for _, value in numbered]

    with h5py.File(file, "r") as contents:
        contents.visititems(visit)
    return arrays


def _assign(model: keras.Model, arrays: dict[str, list[np.ndarray]], path: Path) -> list[str]:
    weighted = {layer.name: layer for layer in model.layers if layer.weights}
    kept = []
    for name, layer in weighted.items():
        found = [list(array.shape) for array in arrays.get(name, [])]
        wanted = [list(variable.shape) for variable in layer.weights]
        if found != wanted:
            if not name.startswith("head_"):
                raise UserError(
                    f"weights {str(path)!r} do not fit {model.name}: layer {name} takes {wanted}, the file has "
                    f"{found or 'no such layer'}"
                )
            kept.append(name)
    extra = sorted(name for name, found in arrays.items() if found and name not in weighted)
    if extra and not all(name.startswith("head_") for name in extra):
        raise UserError(f"weights {str(path)!r} do not fit {model.name}: no layer takes their {', '.join(extra[:3])}")
    for name, layer in weighted.items():
        if name not in kept:
            layer.set_weights(arrays[name])
    return kept


def load_application(model: keras.Model, path: Path) -> list[str]:
    """As `kcnn.load_weights`, from an `.h5` file of keras.applications, with or without the classifier."""
    application = model_spec(model.name).application
    if application is None:
        raise UserError(f"weights {str(path)!r}: keras.applications has no {model.name}")
    with h5py.File(path, "r") as contents:
        layers = {name if isinstance(name, str) else name.decode() for name in contents.attrs.get("layer_names", [])}
    if not layers:
        raise UserError(f"weights {str(path)!r}: not a weights file of keras.applications")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        function = getattr(keras.applications, application.function)
        twin = function(weights=None, include_top="predictions" in layers, **application.arguments)
        try:
            twin.load_weights(path)
        except ValueError as error:
            raise UserError(f"weights {str(path)!r} do not fit {model.name}: {str(error).splitlines()[0]}") from None
    finally:
        keras.config.set_dtype_policy(policy)
    return copy_weights(twin, model)
