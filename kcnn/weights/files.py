"""Weights files: the project's own safetensors, torch's, Keras' two formats, and what keras.applications downloads.

Only numbers and words are read, by the names of layers; nothing in a file is called, imported or deserialised, and no
link in it is followed.
"""

import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import h5py
import keras
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from kcnn.errors import UserError
from kcnn.models.spec import model_spec
from kcnn.nn.keras_settings import dtype_policy
from kcnn.weights.copy import LoadReport, assign, copy_weights
from kcnn.weights.designs import Layers, check_default_design, check_layers, describe_layers, read_layers
from kcnn.weights.torch_checkpoints import read_state_dict
from kcnn.weights.torch_files import fit_state_dict

# Layer → its arrays, in the order of the layer's `weights`.
_Arrays = dict[str, list[np.ndarray]]
# What a reader returns once it has read all of a file and knows that it fits: gives the weights to the model.
_Give = Callable[[], LoadReport]


def save_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Write every weight of `model` as "layer/variable" to a `.safetensors` file, whole or not at all.

    The file's metadata says for which design the weights are: `layers` has what changes the answers of each layer.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    tensors = {
        weight_key(layer, variable): keras.ops.convert_to_numpy(variable)
        for layer in model.layers
        for variable in layer.weights
    }
    save_file(tensors, temporary, metadata={"layers": json.dumps(describe_layers(model))})
    os.replace(temporary, path)


def load_file(model: keras.Model, path: Path) -> LoadReport:
    """Give `model` the weights of a file, as `kcnn.load_weights` does.

    Raises:
        UserError: the file is of no known kind, damaged, or for another network; `model` is as it was.
    """
    reader = next((reader for ending, reader in _READERS.items() if path.name.endswith(ending)), None)
    if reader is None:
        raise UserError(f"weights {str(path)!r}: expected a file ending in {', '.join(_READERS)}")
    try:
        give = reader(model, path)
    except UserError:
        raise
    except Exception as error:  # a damaged file raises whatever its reader happens to stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights {str(path)!r} cannot be read: {reason}") from error
    return give()


def weight_key(layer: keras.Layer, variable: keras.Variable) -> str:
    """Return the name of a weight in this project's files."""
    return f"{layer.name}/{variable.name}"


def _read_safetensors(model: keras.Model, path: Path) -> _Give:
    with safe_open(path, "numpy") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return fit_tensors(model, tensors, file.metadata() or {}, str(path))


def fit_tensors(
    model: keras.Model, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str], source: str
) -> Callable[[], LoadReport]:
    """Match the tensors of a safetensors file with the layers of `model`, which stays as it is.

    Args:
        model: of `create_model`.
        tensors: by this project's names, which have a slash, or by torch's.
        metadata: of the file.
        source: where they are from, for messages.

    Returns:
        what gives `model` the tensors, and says what was loaded.

    Raises:
        UserError: they are for another network.
    """
    if not any("/" in key for key in tensors):
        return fit_state_dict(model, tensors, source)
    rest = dict(tensors)
    wanted = {layer.name: [weight_key(layer, variable) for variable in layer.weights] for layer in model.layers}
    arrays = {name: [rest.pop(key) for key in keys if key in rest] for name, keys in wanted.items()}
    for key, value in rest.items():
        arrays.setdefault(key.rpartition("/")[0], []).append(value)
    described = json.loads(metadata["layers"]) if "layers" in metadata else None
    return _fit(model, arrays, source, described)


def _read_state_dict(model: keras.Model, path: Path) -> _Give:
    return fit_state_dict(model, read_state_dict(path), str(path))


def _read_keras_h5(model: keras.Model, path: Path) -> _Give:
    return _fit(model, _keras_arrays(path), str(path), None)


def _read_archive(model: keras.Model, path: Path) -> _Give:
    """Read a `.keras` file: the weights, and numbers and words of the configuration, which can name code: none runs."""
    with zipfile.ZipFile(path) as archive:
        arrays = _keras_arrays(io.BytesIO(archive.read("model.weights.h5")))
        return _fit(model, arrays, str(path), read_layers(archive.read("config.json")))


def _keras_arrays(file: Path | io.BytesIO) -> _Arrays:
    """Read a `.weights.h5` file: groups of numbered arrays, each with its layer's name."""
    arrays: _Arrays = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Group) and path.startswith("layers/") and "name" in item.attrs:
            indices = sorted(int(key) for key in item if key.isdecimal())
            arrays[str(item.attrs["name"])] = [_read_array(item, str(index)) for index in indices]

    with h5py.File(file, "r") as contents:
        contents.visititems(visit)
    return arrays


def _read_array(group: h5py.Group, key: str) -> np.ndarray:
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise ValueError(f"{group.name}/{key} is a link")
    dataset = group[key]
    if dataset.external or dataset.is_virtual:
        raise ValueError(f"{group.name}/{key} is stored in another file")
    return np.asarray(dataset)


def _read_application(model: keras.Model, path: Path) -> _Give:
    """Read a file of keras.applications, with or without the classifier."""
    application = model_spec(model.name).application
    if application is None:
        raise UserError(f"weights {str(path)!r}: keras.applications has no {model.name}")
    check_default_design(model, f"weights {str(path)!r} for {model.name}")
    with h5py.File(path, "r") as contents:
        layers = [contents[name] for name in _names(contents, "layer_names")]
        weighted = [(layer, names) for layer in layers if (names := _names(layer, "weight_names"))]
        if not weighted:
            raise UserError(f"weights {str(path)!r}: not a weights file of keras.applications")
        last, names = weighted[-1]
        kernel = max((last[name].shape for name in names), key=len)
    # The last layer is the classifier, under one name or another, where it is dense or a 1x1 convolution.
    classifies = len(kernel) == 2 or kernel[:-2] == (1, 1)
    top = {"include_top": True, "classes": kernel[-1]} if classifies else {"include_top": False}
    with dtype_policy("float32"):
        twin = getattr(keras.applications, application.function)(weights=None, **top, **application.arguments)
    try:
        twin.load_weights(path)
    except ValueError as error:
        raise UserError(f"weights {str(path)!r} do not fit {model.name}: {str(error).splitlines()[0]}") from None
    return partial(copy_weights, twin, model)


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return the names that Keras keeps in an attribute, or in several numbered ones when there are many."""
    if attribute in group.attrs:
        return [name.decode() if isinstance(name, bytes) else str(name) for name in group.attrs[attribute]]
    parts = itertools.takewhile(group.attrs.__contains__, (f"{attribute}{index}" for index in itertools.count()))
    return [name for part in parts for name in _names(group, part)]


_READERS = {
    ".safetensors": _read_safetensors,
    ".weights.h5": _read_keras_h5,
    ".keras": _read_archive,
    ".h5": _read_application,
    ".pth": _read_state_dict,
    ".pt": _read_state_dict,
}


def _fit(model: keras.Model, arrays: _Arrays, source: str, described: Layers | None) -> _Give:
    """Match the arrays with the layers of the same name, where the file's network computes the same."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    pairs, kept = [], []
    for name, layer in layers.items():
        found = [list(array.shape) for array in arrays.get(name, [])]
        wanted = [list(variable.shape) for variable in layer.weights]
        if found == wanted:
            pairs.append((layer.weights, arrays[name]))
        elif name.startswith("head_"):
            kept.append(name)
        else:
            raise UserError(
                f"weights {source!r} do not fit {model.name}: layer {name} takes {wanted}, the file has "
                f"{found or 'no such layer'}"
            )
    extra = [name for name in arrays if arrays[name] and name not in layers and not name.startswith("head_")]
    if extra:
        raise UserError(f"weights {source!r} do not fit {model.name}: it has no layer {', '.join(extra[:3])}")
    remarks = check_layers(model, described, source)
    return partial(assign, pairs, source=source, kept=kept, remarks=remarks)
