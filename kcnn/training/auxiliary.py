"""Losses of networks with auxiliary classifiers (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015)."""

from collections.abc import Callable

import keras
import tensorflow as tf

# (labels [N, classes], logits [N, classes]) → a number, or one for each image
Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def without_auxiliary(model: keras.Model) -> keras.Model:
    """Return the main classifier of `model` alone, images → logits [N, classes]; the two share their weights."""
    return keras.Model(model.input, model.outputs[0], name=model.name)


def with_auxiliary(
    model: keras.Model, loss: Loss, weight: float
) -> tuple[keras.Model, Loss, list[Loss | keras.metrics.Metric]]:
    """Combine the losses of all classifiers of a network into one.

    Args:
        model: images → logits [N, classes], or a list of them, the main classifier's first.
        loss: the loss of one classifier.
        weight: what each auxiliary classifier's loss is multiplied by; the main classifier's is not.

    Returns:
        the model to fit, its loss, and its metrics: the main classifier's accuracy.
    """
    if len(model.outputs) == 1:
        return model, loss, [keras.metrics.CategoricalAccuracy("accuracy")]
    together = keras.Model(model.input, keras.ops.stack(model.outputs, axis=1))

    def weighted(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        main, *others = keras.ops.unstack(logits, axis=1)
        return loss(labels, main) + weight * sum(loss(labels, other) for other in others)

    def accuracy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return keras.metrics.categorical_accuracy(labels, logits[:, 0])

    return together, weighted, [accuracy]
