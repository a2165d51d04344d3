"""Losses of networks with auxiliary classifiers (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015)."""

from collections.abc import Callable
from typing import Any

import keras

# (labels [N, classes], logits) → a number, or one for each image
_Loss = Callable[[Any, Any], Any]


def main_output(model: keras.Model) -> keras.Model:
    """`model` without its auxiliary classifiers, sharing its weights."""
    return keras.Model(model.input, model.outputs[0], name=model.name)


def with_auxiliary(model: keras.Model, loss: _Loss, weight: float) -> tuple[keras.Model, _Loss, list[_Loss]]:
    """What to fit, its loss, and its accuracy, which is the main classifier's alone.

    Args:
        model: images → logits [N, classes], or a list of them, the main classifier's first.
        loss: of one classifier.
        weight: of each auxiliary classifier's loss; the main one's is 1.
    """
    if len(model.outputs) == 1:
        return model, loss, [keras.metrics.CategoricalAccuracy("accuracy")]
    together = keras.Model(model.input, keras.ops.stack(model.outputs, axis=1))

    def weighted(labels: Any, logits: Any) -> Any:
        main, *others = keras.ops.unstack(logits, axis=1)
        return loss(labels, main) + weight * sum(loss(labels, other) for other in others)

    def accuracy(labels: Any, logits: Any) -> Any:
        return keras.metrics.categorical_accuracy(labels, logits[:, 0])

    return together, weighted, [accuracy]
