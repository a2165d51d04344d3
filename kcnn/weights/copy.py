"""Copying weights between two models of one architecture that were written by different hands."""

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from kcnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What came of loading weights; as a string, one line.

    Attributes:
        source: the file or the model that they are from.
        loaded: how many layers received weights.
        kept: the layers of the classifier head that keep their own, because their shapes differ.
    """

    source: str
    loaded: int
    kept: tuple[str, ...] = ()

    def __str__(self) -> str:
        rest = f", {', '.join(self.kept)} as initialised" if self.kept else ""
        return f"{self.source}: {self.loaded} layers{rest}"


def weighted_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers with weights, in post-order of a depth-first walk from the output that takes inputs in their order.

    That order depends on how the layers are connected and on nothing else: not on names, nor on layers without weights
    between them. So the layers of two models of one architecture, both listed so, are pairs. Keras' Normalization is
    left out: its statistics belong to the preprocessing, which every project has its own way for.
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


def copy_weights(source: keras.Model, target: keras.Model) -> LoadReport:
    """Gives `target` the weights of `source`, in either direction between kcnn and keras.applications.

    Returns:
        what was copied. Layers of the classifier head whose shapes differ (other classes, another image size), or that
        one of the two does not have (`include_top=False`), keep what they have.

    Raises:
        UserError: the two are not of one architecture; `target` is as it was.
    """
    pairs, kept = [], []
    for mine, other in itertools.zip_longest(weighted_layers(target), weighted_layers(source)):
        if mine is not None and other is not None and _kind(mine) == _kind(other) and _shapes(mine) == _shapes(other):
            pairs.append((mine, other.get_weights()))
        elif not (_in_head(mine) or _in_head(other)):
            raise UserError(
                f"the weights of {source.name} do not fit {target.name}: it has {_describe(mine)} where the source "
                f"has {_describe(other)}"
            )
        elif mine is not None:
            kept.append(mine.name)
    return assign(pairs, source=source.name, kept=kept)


def assign(pairs: Iterable[tuple[keras.Layer, list[np.ndarray]]], *, source: str, kept: Iterable[str]) -> LoadReport:
    """Sets the weights of layers, once all of them are known to fit."""
    pairs = list(pairs)
    for layer, arrays in pairs:
        layer.set_weights(arrays)
    return LoadReport(source, len(pairs), tuple(kept))


def _in_head(layer: keras.Layer | None) -> bool:
    return layer is not None and layer.name.startswith("head_")


def _kind(layer: keras.Layer) -> type:
    """The class of Keras that a layer is or extends."""
    return next(kind for kind in type(layer).__mro__ if kind.__module__.partition(".")[0] == "keras")


def _shapes(layer: keras.Layer) -> list[tuple[str, tuple[int, ...]]]:
    return [(variable.name, tuple(variable.shape)) for variable in layer.weights]


def _describe(layer: keras.Layer | None) -> str:
    return f"{layer.name} {[list(v.shape) for v in layer.weights]}" if layer is not None else "no layer"
