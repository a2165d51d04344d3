"""The kernels of a network, and the axes over which one of their units sums."""

import keras
import tensorflow as tf


def kernels(model: keras.Model) -> list[tuple[keras.layers.Layer, keras.Variable]]:
    """Return the kernels of convolutions and dense layers that train, each with its layer.

    Args:
        model: of `create_model`, or a part of one.
    """
    return [
        (layer, variable)
        for layer in model.layers
        for variable in layer.trainable_variables
        if "kernel" in variable.name
    ]


def unit_axes(layer: keras.layers.Layer, variable: keras.Variable) -> tuple[int, ...]:
    """Return the axes of a weight over which the norm of one unit goes: those of its inputs.

    A unit is an output of a dense layer or an output channel of a convolution; of a depthwise one, each channel. Biases
    and the scales of normalisation are one unit as a whole.

    Args:
        layer: the layer that has it.
        variable: dense [in, out], convolution [H, W, in, out], depthwise [H, W, C, multiplier], or a vector.
    """
    if len(variable.shape) < 2:
        return tuple(range(len(variable.shape)))
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return (0, 1)
    return tuple(range(len(variable.shape) - 1))


def unit_norms(values: tf.Tensor, axes: tuple[int, ...]) -> tf.Tensor:
    """Return the L2 norm of each unit of a weight or of its gradient, with axes of length 1 for those it goes over."""
    return tf.sqrt(tf.reduce_sum(tf.square(values), axis=axes, keepdims=True))
