"""Weights files: the project's own safetensors, torch's, Keras' two formats, and what keras.applications downloads.

Only numbers and words are read, by the names of layers; nothing in a file is called, imported or deserialised, and no
link in it is followed. Shapes come first: numbers are read where they fit, and nowhere else (`kcnn.weights.stored`).
"""

import io
import json
import os
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import h5py
import keras
from safetensors import safe_open
from safetensors.numpy import save_file

from kcnn.errors import UserError
from kcnn.models.spec import model_spec
from kcnn.nn.keras_settings import dtype_policy
from kcnn.weights.copy import LoadReport, copy_weights
from kcnn.weights.designs import Layers, check_default_design, check_layers, describe_layers, read_layers
from kcnn.weights.hdf5 import find_member, largest_heap, read_name, read_names, stored_tensor, walk_groups
from kcnn.weights.stored import (
    OBJECTS,
    TEXT_BYTES,
    Give,
    StoredTensor,
    WeightsMatch,
    check_file_size,
    read_match,
    read_member,
    shown_name,
)
from kcnn.weights.torch_checkpoints import open_state_dict
from kcnn.weights.torch_files import fit_state_dict

# Layer → its tensors, in the order of the layer's `weights`.
_Tensors = dict[str, list[StoredTensor]]


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
    check_file_size(model, path.stat().st_size, str(path))
    try:
        give = reader(model, path)
    except UserError:
        raise
    except Exception as error:  # a damaged file raises whatever its reader happens to stumble over
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"weights {str(path)!r} cannot be read: {shown_name(reason)}") from error
    return give()


def weight_key(layer: keras.Layer, variable: keras.Variable) -> str:
    """Return the name of a weight in this project's files."""
    return f"{layer.name}/{variable.name}"


def _read_safetensors(model: keras.Model, path: Path) -> Give:
    with safe_open(path, "numpy") as file:
        if len(file.keys()) > OBJECTS:
            raise ValueError(f"it names more than {OBJECTS:,} tensors")
        tensors = {
            key: StoredTensor(tuple(file.get_slice(key).get_shape()), partial(file.get_tensor, key))
            for key in file.keys()  # noqa: SIM118
        }
        return read_match(fit_tensors(model, tensors, file.metadata() or {}, str(path)))


def fit_tensors(
    model: keras.Model, tensors: Mapping[str, StoredTensor], metadata: Mapping[str, str], source: str
) -> WeightsMatch:
    """Match the tensors of a safetensors file with the layers of `model`, by their names and shapes.

    Args:
        model: of `create_model`.
        tensors: by this project's names, which have a slash, or by torch's.
        metadata: of the file.
        source: where they are from, for messages.

    Raises:
        UserError: they are for another network.
    """
    if not any("/" in key for key in tensors):
        return fit_state_dict(model, tensors, source)
    rest = dict(tensors)
    wanted = {layer.name: [weight_key(layer, variable) for variable in layer.weights] for layer in model.layers}
    found = {name: [rest.pop(key) for key in keys if key in rest] for name, keys in wanted.items()}
    for key, value in rest.items():
        found.setdefault(key.rpartition("/")[0], []).append(value)
    layers = metadata.get("layers")
    if layers is not None and len(layers) > TEXT_BYTES:
        raise ValueError(f"it describes its layers in {len(layers):,} characters, more than {TEXT_BYTES:,}")
    return _fit(model, found, source, None if layers is None else json.loads(layers))


def _read_state_dict(model: keras.Model, path: Path) -> Give:
    with open_state_dict(path) as tensors:
        return read_match(fit_state_dict(model, tensors, str(path)))


def _read_keras_h5(model: keras.Model, path: Path) -> Give:
    return _read_layers(model, path, str(path), None)


def _read_archive(model: keras.Model, path: Path) -> Give:
    """Read a `.keras` file: the weights, and numbers and words of the configuration, which can name code: none runs."""
    with zipfile.ZipFile(path) as archive:
        described = read_layers(read_member(archive, "config.json", TEXT_BYTES))
        weights = read_member(archive, "model.weights.h5")
    return _read_layers(model, io.BytesIO(weights), str(path), described)


def _read_layers(model: keras.Model, file: Path | io.BytesIO, source: str, described: Layers | None) -> Give:
    """Read a `.weights.h5` file: groups of numbered arrays, each with its layer's name."""
    with h5py.File(file, "r") as contents:
        tensors: _Tensors = {}
        for group in walk_groups(find_member(contents, "layers")):
            name = read_name(group, "name")
            if name is not None:
                numbers = sorted(int(key) for key in group.id if key.isdigit())
                tensors[name] = [stored_tensor(group, str(number)) for number in numbers]
        return read_match(_fit(model, tensors, source, described))


def _read_application(model: keras.Model, path: Path) -> Give:
    """Read a file of keras.applications, with or without the classifier."""
    application = model_spec(model.name).application
    if application is None:
        raise UserError(f"weights {str(path)!r}: keras.applications has no {model.name}")
    check_default_design(model, f"weights {str(path)!r} for {model.name}")
    with h5py.File(path, "r") as contents:
        heap = largest_heap(path)
        tensors: list[list[StoredTensor]] = []
        arrays = 0
        for name in read_names(contents, "layer_names", heap):
            layer = find_member(contents, name)
            if weights := [stored_tensor(layer, each) for each in read_names(layer, "weight_names", heap)]:
                tensors.append(weights)
                arrays += len(weights)
            if arrays > OBJECTS:
                raise ValueError(f"it names more than {OBJECTS:,} arrays")
        if not tensors:
            raise UserError(f"weights {str(path)!r}: not a weights file of keras.applications")
        kernel = max((tensor.shape for tensor in tensors[-1]), key=len)
        # The last layer is the classifier, under one name or another, where it is dense or a 1x1 convolution.
        classifies = len(kernel) == 2 or kernel[:-2] == (1, 1)
        heads = [layer for layer in model.layers if layer.name.startswith("head_") and layer.weights]
        classes = heads[-1].weights[0].shape[-1] if heads else 1
        other = classifies and kernel[-1] != classes  # then it is not taken, and the twin's must not fit either
        top = {"include_top": True, "classes": classes + other} if classifies else {"include_top": False}
        with dtype_policy("float32"):
            twin = getattr(keras.applications, application.function)(weights=None, **top, **application.arguments)
        layers = [layer for layer in twin.layers if layer.weights]
        if other:
            del layers[-1], tensors[-1]
        read_match(_fit_in_order(layers, tensors, str(path), model.name))()
    return partial(copy_weights, twin, model)


def _fit_in_order(
    layers: list[keras.Layer], tensors: list[list[StoredTensor]], source: str, model: str
) -> WeightsMatch:
    """Match the layers of a file with a network's, which may have other names, in their order as Keras does."""
    misfit = f"weights {source!r} do not fit {model}"
    if len(layers) != len(tensors):
        raise UserError(f"{misfit}: it has {len(layers)} layers with weights, the file has {len(tensors)}")
    pairs = []
    for layer, stored in zip(layers, tensors, strict=True):
        variables = layer.trainable_weights + layer.non_trainable_weights
        if not _same_shapes(variables, stored):
            raise UserError(f"{misfit}: {_describe_misfit(layer, stored)}")
        pairs.append((variables, [tensor.read for tensor in stored]))
    return WeightsMatch(pairs, source, [])


_READERS = {
    ".safetensors": _read_safetensors,
    ".weights.h5": _read_keras_h5,
    ".keras": _read_archive,
    ".h5": _read_application,
    ".pth": _read_state_dict,
    ".pt": _read_state_dict,
}


def _fit(model: keras.Model, tensors: _Tensors, source: str, described: Layers | None) -> WeightsMatch:
    """Match the tensors with the layers of the same name, where the file's network computes the same."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    pairs, kept = [], []
    for name, layer in layers.items():
        stored = tensors.get(name, [])
        if _same_shapes(layer.weights, stored):
            pairs.append((layer.weights, [tensor.read for tensor in stored]))
        elif name.startswith("head_"):
            kept.append(name)
        else:
            raise UserError(f"weights {source!r} do not fit {model.name}: {_describe_misfit(layer, stored)}")
    extra = [name for name in tensors if tensors[name] and name not in layers and not name.startswith("head_")]
    if extra:
        names = ", ".join(map(shown_name, extra[:3]))
        raise UserError(f"weights {source!r} do not fit {model.name}: it has no layer {names}")
    return WeightsMatch(pairs, source, kept, check_layers(model, described, source))


def _same_shapes(variables: list[keras.Variable], stored: list[StoredTensor]) -> bool:
    return [tuple(variable.shape) for variable in variables] == [tensor.shape for tensor in stored]


def _describe_misfit(layer: keras.Layer, stored: list[StoredTensor]) -> str:
    wanted = [list(variable.shape) for variable in layer.weights]
    found = [list(tensor.shape) for tensor in stored[: len(wanted) + 1]]
    return f"layer {layer.name} takes {wanted}, the file has {shown_name(str(found)) if found else 'no such layer'}"
