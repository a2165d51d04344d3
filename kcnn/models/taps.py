"""What a network sees on the way to its answer: feature maps, stride by stride, and what it decides by."""

import math
from typing import Any

import keras

STRIDES = (2, 4, 8, 16, 32)


def feature_maps(model: keras.Model) -> dict[str, Any]:
    """{"stride2": tensor [N, H / 2, W / 2, C], ...}: for each of `STRIDES` that occurs, the output of the last block
    before the resolution drops.

    A block is the layers whose names begin with the same two words; its output is the last of them.

    Args:
        model: of `create_model`: one image input, layers in the order of the graph.
    """
    strides: dict[int, int] = {}  # of the tensor, by its id
    found: dict[str, Any] = {}
    layers = [layer for layer in model.layers if not layer.name.startswith("head_")]
    for layer in layers:
        before = max((strides[id(tensor)] for tensor in _inputs(layer)), default=1)
        after = before * math.prod(getattr(layer, "strides", (1,))[:1])
        strides.update({id(tensor): after for tensor in keras.tree.flatten(layer.output)})
    blocks = {tuple(layer.name.split("_")[:2]): layer.output for layer in layers}
    for output in blocks.values():
        if strides[id(output)] in STRIDES:
            found[f"stride{strides[id(output)]}"] = output
    return found


def penultimate(model: keras.Model) -> keras.Model:
    """Images → what the last layer with weights takes, float [N, D], averaged over positions where it has any."""
    last = next((layer for layer in reversed(model.layers) if layer.weights), model.layers[-1])
    features = last.input
    if len(features.shape) == 4:
        features = keras.ops.mean(features, axis=(1, 2))
    return keras.Model(model.input, features)


def _inputs(layer: keras.Layer) -> list[Any]:
    return layer._inbound_nodes[0].input_tensors
