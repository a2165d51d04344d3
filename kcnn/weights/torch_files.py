"""State dicts of torchvision, timm and others, given to networks whose layers have other names."""

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import keras
import numpy as np

from kcnn.errors import UserError
from kcnn.models.spec import MODELS, model_spec
from kcnn.weights.designs import check_default_design
from kcnn.weights.stored import StoredTensor, WeightsMatch, shown_name
from kcnn.weights.torch_names import TORCH_NAMES

_SUFFIX = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_UNUSED = re.compile(r"(.*\.)?num_batches_tracked|aux.*", re.IGNORECASE)  # counters, and heads that only train
_SHOWN = 3


def fit_state_dict(model: keras.Model, tensors: Mapping[str, StoredTensor], source: str) -> WeightsMatch:
    """Match the tensors of a torch network with the layers of `model`, by their names and shapes.

    Args:
        model: of `create_model`.
        tensors: by torch's names, in torch's shapes.
        source: where they are from, for messages.

    Returns:
        which tensors go where; layers of the classifier head whose shapes differ (other classes, another image size)
        keep what they have.

    Raises:
        UserError: tensors are missing, left over or of another shape, or the network computes something else than
            `model` (a row `<id>.torch` does what torch does).
    """
    spec = model_spec(model.name)
    # Preprocessing with weights is fitted, which check_default_design refuses.
    layers = {layer.name: layer for layer in model.layers if layer.weights and not layer.name.startswith("preprocess_")}
    misfit = f"weights {source!r} do not fit {spec.name}"
    if spec.family not in TORCH_NAMES:
        raise UserError(f"{misfit}: they are torch's, which {spec.name} is not known how to take")
    candidates = {project: names(list(layers)) for project, names in TORCH_NAMES.get(spec.family).items()}

    def known(project: str) -> int:
        return sum(_key(module, "kernel", tensors) in tensors for module in candidates[project].values())

    project = max(candidates, key=lambda project: (known(project), project in spec.torch))
    if project not in spec.torch and 2 * known(project) > len(layers):
        rows = [row for row in MODELS if row.startswith(f"{spec.name}.") and project in MODELS.get(row).torch]
        raise UserError(f"{misfit}, which is not {project}'s network" + (f": {' or '.join(rows)} is" if rows else ""))
    modules = candidates[project]
    pairs: list[tuple[list[keras.Variable], list[Callable[[], np.ndarray]]]] = []
    kept, left_over = [], {key for key in tensors if not _UNUSED.fullmatch(key)}
    missing: list[str] = []
    misshapen: list[str] = []
    for name, layer in layers.items():
        keys = [_key(modules[name], variable.name, tensors) for variable in layer.weights]
        left_over.difference_update(keys)
        absent = [key for key in keys if key not in tensors]
        stored = [] if absent else [(tensors[k], v, layer) for k, v in zip(keys, layer.weights, strict=True)]
        wrong = [
            f"{key} {shown_name(str(list(tensor.shape)))} for {variable.path} {list(variable.shape)}"
            for key, (tensor, variable, _) in zip(keys, stored, strict=False)
            if not _takes(variable, layer, tensor.shape)
        ]
        if not absent and not wrong:
            pairs.append((layer.weights, [partial(_read, *each) for each in stored]))
        elif name.startswith("head_"):
            kept.append(name)
        else:
            missing += absent
            misshapen += wrong
    if not any(name.startswith("head_") for name in layers):
        left_over.clear()  # features only: what is left is the classifier's
    found = {"missing": missing, "left over": sorted(left_over), "of another shape": misshapen}
    if any(found.values()):
        raise UserError(f"{misfit}: " + "; ".join(f"{what}: {_some(keys)}" for what, keys in found.items() if keys))
    check_default_design(model, f"weights {source!r} for {model.name}")
    return WeightsMatch(pairs, source, kept)


def _key(module: str, variable: str, tensors: Mapping[str, StoredTensor]) -> str:
    """Return the name of a variable's tensor; what is no layer in torch, as a residual branch's scale, has its own."""
    return module if module in tensors else f"{module}.{_SUFFIX[variable]}"


def _takes(variable: keras.Variable, layer: keras.Layer, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor of this shape can become the variable."""
    if math.prod(shape) != math.prod(variable.shape):
        return False
    # One number in place of all shows what becomes of the shape.
    return _convert(np.broadcast_to(np.float32(0), shape), variable, layer) is not None


def _read(tensor: StoredTensor, variable: keras.Variable, layer: keras.Layer) -> np.ndarray:
    """Return the numbers of a tensor as Keras lays them out."""
    array = _convert(tensor.read(), variable, layer)
    if array is None:
        raise ValueError(f"the numbers for {variable.path} are not of the shape that the file declares")
    return array


def _convert(tensor: np.ndarray, variable: keras.Variable, layer: keras.Layer) -> np.ndarray | None:
    """Return a tensor as Keras lays it out, or None when it has another shape."""
    if variable.name != "kernel":
        array: np.ndarray = tensor.reshape(-1)  # of an affine map, sometimes with axes of length 1
    elif isinstance(layer, keras.layers.DepthwiseConv2D):
        array = tensor.transpose(2, 3, 0, 1) if tensor.ndim == 4 else tensor
    else:
        if tensor.ndim == 2:
            height, width = _flattened(layer)
            if tensor.shape[1] % (height * width):
                return None
            tensor = tensor.reshape(len(tensor), -1, height, width)
        array = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor
    squeezed = [[length for length in shape if length != 1] for shape in (array.shape, variable.shape)]
    if squeezed[0] == squeezed[1]:
        return array.reshape(variable.shape)
    # A convolution over the whole of the features is a dense layer after a flattening.
    flat = isinstance(layer, keras.layers.Dense) and array.ndim == 4
    matches = flat and list(variable.shape) == [math.prod(array.shape[:3]), array.shape[3]]
    return array.reshape(variable.shape) if matches else None


def _flattened(layer: keras.Layer) -> tuple[int, ...]:
    """Return height and width of the features that are flattened before a dense layer; 1, 1 where they are not."""
    while True:
        inputs = layer._inbound_nodes[0].input_tensors
        before: Any = inputs[0]._keras_history.operation
        if isinstance(before, keras.layers.Flatten):
            return tuple(before.input.shape[1:3])
        if len(inputs) != 1 or before.weights or isinstance(before, keras.layers.InputLayer):
            return 1, 1
        layer = before


def _some(keys: list[str]) -> str:
    more = len(keys) - _SHOWN
    return ", ".join(map(shown_name, keys[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
