"""Copying weights between two models of one architecture that were written by different hands."""

import dataclasses
import itertools
from collections.abc import Iterable

import keras
import numpy as np

from kcnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """The outcome of loading weights; as a string, one line.

    Attributes:
        source: the file or the model that they are from.
        loaded: how many layers received weights.
        kept: the layers of the classifier head that keep their own, because their shapes differ.
        remarks: what a user should know of them, such as what of the design the source leaves open.
    """

    source: str
    loaded: int
    kept: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        rest = f", {', '.join(self.kept)} as initialised" if self.kept else ""
        return "; ".join((f"{self.source}: {self.loaded} layers{rest}", *self.remarks))


def weighted_layers(model: keras.Model) -> list[keras.Layer]:
    """Return the layers with weights, in post-order of a depth-first walk from the outputs.

    The order is post-order, with inputs in their order. It depends on how the layers are connected and on nothing else:
    not on names, nor on layers without weights between them. So the layers of two models of one architecture, both
    listed so, are pairs. Keras' Normalization is left out: its statistics belong to the preprocessing, for which every
    project has its own way.
    """
    found: list[keras.Layer] = []
    seen: set[int] = set()
    stack: list[tuple[keras.KerasTensor, bool]] = [(tensor, False) for tensor in reversed(model.outputs)]
    while stack:
        tensor, inputs_done = stack.pop()
        operation, node_index, _ = tensor._keras_history
        node = operation._inbound_nodes[node_index]
        if inputs_done:
            if isinstance(operation, keras.Model):
                found.extend(weighted_layers(operation))
            elif getattr(operation, "weights", None) and not isinstance(operation, keras.layers.Normalization):
                found.append(operation)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((tensor, True))
            stack.extend((parent, False) for parent in reversed(node.input_tensors))
    return found


@dataclasses.dataclass(frozen=True)
class _Operation:
    """A layer, or one half of a separable convolution: one of a pair."""

    layer: str
    kind: type
    variables: list[keras.Variable]

    def fits(self, other: "_Operation") -> bool:
        """Return whether both are of one kind and have the same variables; "depthwise_kernel" is a "kernel"."""

        def signature(operation: "_Operation") -> list[tuple[str, tuple[int, ...]]]:
            own = operation.kind is keras.layers.Layer  # of another project, with names of its own
            return [("" if own else v.name.rpartition("_")[2], _shape(operation.kind, v)) for v in operation.variables]

        return self.kind is other.kind and signature(self) == signature(other)

    def __str__(self) -> str:
        return f"{self.layer} {[list(v.shape) for v in self.variables]}"


def _operations(model: keras.Model) -> list[_Operation]:
    return [operation for layer in weighted_layers(model) for operation in _layer_operations(layer)]


def _layer_operations(layer: keras.Layer) -> list[_Operation]:
    if isinstance(layer, keras.layers.SeparableConv2D):
        depthwise, *pointwise = layer.weights
        kinds = (keras.layers.DepthwiseConv2D, keras.layers.Dense)
        return [_Operation(layer.name, kind, v) for kind, v in zip(kinds, ([depthwise], pointwise), strict=True)]
    # The class of Keras that the layer is or extends; its applications have layers of their own.
    kind = next(
        kind
        for kind in type(layer).__mro__
        if kind.__module__.startswith("keras.") and ".applications." not in kind.__module__
    )
    if kind is keras.layers.Conv2D and layer.kernel_size == (1, 1) and layer.groups == 1:
        kind = keras.layers.Dense
    return [_Operation(layer.name, kind, layer.weights)]


def _shape(kind: type, variable: keras.Variable) -> tuple[int, ...]:
    """Return the shape of a variable; a dense layer's kernel [C, C'] is [1, 1, C, C'] in a 1x1 convolution."""
    return tuple(variable.shape[-2:] if kind is keras.layers.Dense else variable.shape)


def copy_weights(source: keras.Model, target: keras.Model) -> LoadReport:
    """Give `target` the weights of `source`, in either direction between kcnn and keras.applications.

    Returns:
        what was copied. Layers of the classifier head whose shapes differ (other classes, another image size), or that
        one of the two does not have (`include_top=False`), keep what they have.

    Raises:
        UserError: the two are not of one architecture; `target` is as it was.
    """
    pairs, kept = [], []
    for mine, other in itertools.zip_longest(_operations(target), _operations(source)):
        if mine is not None and other is not None and mine.fits(other):
            pairs.append((mine.variables, [keras.ops.convert_to_numpy(variable) for variable in other.variables]))
        elif not (_in_head(mine) or _in_head(other)):
            raise UserError(
                f"the weights of {source.name} do not fit {target.name}: it has {mine or 'no layer'} where the source "
                f"has {other or 'no layer'}"
            )
        elif mine is not None:
            kept.append(mine.layer)
    return assign(pairs, source=source.name, kept=kept)


def assign(
    pairs: Iterable[tuple[list[keras.Variable], list[np.ndarray]]],
    *,
    source: str,
    kept: Iterable[str],
    remarks: tuple[str, ...] = (),
) -> LoadReport:
    """Set the variables of layers, once all of them are known to fit but for axes of length 1."""
    pairs = list(pairs)
    for variables, arrays in pairs:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(np.reshape(array, variable.shape))
    return LoadReport(source, len(pairs), tuple(kept), remarks)


def _in_head(operation: _Operation | None) -> bool:
    return operation is not None and operation.layer.startswith("head_")
