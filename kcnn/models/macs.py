"""Counting multiply-adds."""

import math

import keras

from kcnn.nn.keras_settings import needed_settings
from kcnn.nn.normalization import LayerScale
from kcnn.nn.pixel_layers import ChannelDeviation, ChannelMean, MeanImage, PCAWhitening, ZCAWhitening

_NOT_COUNTED = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.Normalization,
    LayerScale,
    MeanImage,
    ChannelMean,
    ChannelDeviation,
)


@needed_settings()
def macs(model: keras.Model, input_size: int | tuple[int, int] | None = None) -> int:
    """Count the multiply-adds of one image in the convolutions and dense layers of `model`, as papers do.

    Args:
        model: a functional model of one image input.
        input_size: height and width, or one number for both; None for the model's own.

    Raises:
        ValueError: a layer with weights is of a kind that is not known here.
    """
    if input_size is not None:
        size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
        model = keras.models.clone_model(model, input_tensors=keras.Input((*size, 3)))
    return sum(_layer_macs(layer) for layer in model.layers)


def _layer_macs(layer: keras.Layer) -> int:
    if isinstance(layer, PCAWhitening | ZCAWhitening):
        return math.prod(layer.matrix.shape)
    if isinstance(layer, keras.layers.SeparableConv2D):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    elif isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense):
        kernels = [layer.kernel]
    elif not layer.weights or isinstance(layer, _NOT_COUNTED):
        return 0
    else:
        raise ValueError(f"do not know how to count the multiply-adds of {type(layer).__name__} {layer.name!r}")
    # Every weight of a kernel takes part once at each place of the output, grouped and depthwise ones included.
    places = math.prod(layer.output.shape[1:-1])
    return places * sum(math.prod(kernel.shape) for kernel in kernels)
