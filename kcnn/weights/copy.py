"""Copying weights between two models of one architecture that were written by different hands."""

import itertools
from typing import Any

import keras

from kcnn.errors import UserError


def weighted_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights, in post-order of a depth-first walk from the output that takes inputs in their order.

    That order depends on how the layers are connected and on nothing else: not on names, nor on layers without weights
    between them. So the layers of two models of one architecture, both listed so, are pairs.
    """
    found: list[keras.Layer] = []
    seen: set[int] = set()
    stack: list[tuple[Any, bool]] = [(tensor, False) for tensor in reversed(model.outputs)]
    while stack:
        tensor, inputs_done = stack.pop()
        operation, node_index, _ = tensor._keras_history
        node = operation._inbound_nodes[node_index]
        if inputs_done:
            if getattr(operation, "weights", None) and not isinstance(operation, keras.layers.Normalization):
                found.append(operation)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((tensor, True))
            stack.extend((parent, False) for parent in reversed(node.input_tensors))
    return found


def copy_weights(source: keras.Model, target: keras.Model) -> list[str]:
    """Gives `target` the weights of `source`, in either direction between kcnn and keras.applications.

    Returns:
        the layers of the classifier head that were left as they are, because their shapes differ (other classes,
        another input size).

    Raises:
        UserError: the two are not of one architecture; `target` is as it was.
    """
    pairs, kept = [], []
    for mine, other in itertools.zip_longest(weighted_layers(target), weighted_layers(source)):
        if mine is not None and other is not None and _shapes(mine) == _shapes(other):
            pairs.append((mine, other))
        elif mine is not None and mine.name.startswith("head_"):
            kept.append(mine.name)
        else:
            raise UserError(_mismatch(source, target, mine, other))
    for mine, other in pairs:
        mine.set_weights(other.get_weights())
    return kept


def _shapes(layer: keras.Layer) -> list[tuple[str, tuple[int, ...]]]:
    return [(variable.name, tuple(variable.shape)) for variable in layer.weights]


def _mismatch(source: keras.Model, target: keras.Model, mine: keras.Layer | None, other: keras.Layer | None) -> str:
    def describe(layer: keras.Layer | None) -> str:
        return f"{layer.name} {[list(v.shape) for v in layer.weights]}" if layer is not None else "no layer"

    return (
        f"the weights of {source.name} do not fit {target.name}: it has {describe(mine)} "
        f"where the source has {describe(other)}"
    )
