"""The moving statistics of batch norm, for few steps of training and for other images."""

from collections.abc import Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf


def memory_of(steps: int) -> float:
    """Return the momentum of an average over a twentieth of `steps`, over 5 steps at least."""
    return 1 - 1 / max(5.0, steps / 20)


def shorten_batch_norm_memory(model: keras.Model, steps: int) -> None:
    """Lower the momentum of training batch norm so that its statistics average over a twentieth of `steps` at most.

    Momentum 0.99 averages over 100 steps. A run of 100 steps on few photos would be evaluated with statistics that are
    still half their initial values: at chance level, however well it trained.
    """
    momentum = memory_of(steps)
    for layer in batch_norms(model):
        if layer.trainable:
            layer.momentum = min(layer.momentum, momentum)


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the batch norm of `model`, in the order of its layers."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def recalibrate_batch_norm(
    model: keras.Model, batches: Iterable[tf.Tensor], layers: Sequence[keras.layers.BatchNormalization]
) -> None:
    """Replace the statistics of batch norm by those of the images.

    Source: Li et al., "Adaptive Batch Normalization for practical domain adaptation", Pattern Recognition 80, 2018.

    Each layer sees what the layers before it give for the batch's own statistics, as in training.

    Args:
        model: of `create_model`.
        batches: images float32 [B, H, W, 3]; the last may be smaller.
        layers: whose statistics are replaced; other batch norm stays as it is.
    """
    given = [(layer.trainable, layer.momentum) for layer in layers]
    for layer in layers:
        layer.trainable, layer.momentum = True, 0.0  # so that the moving statistics are the last batch's
    forward = tf.function(lambda images: model(images, training=True), reduce_retracing=True)
    count, means, squares = 0, [0.0] * len(layers), [0.0] * len(layers)
    for images in batches:
        forward(images)
        count += len(images)
        for index, layer in enumerate(layers):
            mean = keras.ops.convert_to_numpy(layer.moving_mean).astype(np.float64)
            means[index] += len(images) * mean
            squares[index] += len(images) * (keras.ops.convert_to_numpy(layer.moving_variance) + mean**2)
    for layer, mean, square, (trainable, momentum) in zip(layers, means, squares, given, strict=True):
        layer.moving_mean.assign(mean / count)
        layer.moving_variance.assign(square / count - (mean / count) ** 2)
        layer.trainable, layer.momentum = trainable, momentum
