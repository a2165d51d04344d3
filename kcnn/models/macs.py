"""Counting multiply-adds."""

import math

import keras


def macs(model: keras.Model, input_size: int | tuple[int, int] | None = None) -> int:
    """Multiply-adds of one image through the convolutions and dense layers of `model`, as papers count them.

    Args:
        model: a functional model of one image input.
        input_size: height and width, or one number for both; None for the model's own.
    """
    if input_size is not None:
        size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        model = keras.models.clone_model(model, input_tensors=keras.Input((*size, 3)))
    return sum(_of(layer) for layer in model.layers)


def _of(layer: keras.Layer) -> int:
    if isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense):
        kernel = math.prod(layer.kernel.shape)
        if isinstance(layer, keras.layers.Dense):
            return kernel * math.prod(layer.output.shape[1:-1])
        height, width = layer.output.shape[1:3]
        return kernel * height * width
    if layer.count_params() and not isinstance(
        layer, keras.layers.BatchNormalization | keras.layers.GroupNormalization | keras.layers.LayerNormalization
    ):
        raise ValueError(f"do not know how to count the multiply-adds of {type(layer).__name__} {layer.name!r}")
    return 0
