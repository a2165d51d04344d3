"""Intermediate outputs of a network: feature maps, stride by stride, and the features that its classifier takes."""

import math

import keras
from keras import KerasTensor

STRIDES = (2, 4, 8, 16, 32)


def feature_maps(model: keras.Model) -> dict[str, KerasTensor]:
    """Return the output of the last block at each of `STRIDES` that the network has.

    A block is the layers whose names begin with the same two words; its output is that of the last of them.

    Args:
        model: of `create_model`: one image input, layers in the order of the graph.

    Returns:
        {"stride2": float [N, H / 2, W / 2, C], ...}, from the smallest stride to the largest.
    """
    strides: dict[int, int] = {}  # of the tensor, by its id
    found: dict[str, KerasTensor] = {}
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
    """Return the part of `model` before its last layer with weights: images → float [N, D].

    Feature maps are averaged over their positions.
    """
    last = next((layer for layer in reversed(model.layers) if layer.weights), model.layers[-1])
    features = last.input
    if len(features.shape) == 4:
        features = keras.ops.mean(features, axis=(1, 2))
    return keras.Model(model.input, features)


def _inputs(layer: keras.Layer) -> list[KerasTensor]:
    return layer._inbound_nodes[0].input_tensors
