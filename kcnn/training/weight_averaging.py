"""Averages of weights, with batch-norm statistics that belong to them."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kcnn.training.batch_norm import batch_norms
from kcnn.weights import load_weights


class MovingAverages:
    """Exponential averages of a network's weights (Polyak & Juditsky, 1992), and of its moving statistics with them.

    Statistics of one step's weights are wrong for the average of many steps' weights. Averaged alike, the two belong
    together.

    Args:
        model: whose trainable weights are averaged, and the moving statistics of its batch norm that trains.
        momentum: of the averages, 0 to less than 1. The first update gives them the weights.

    Attributes:
        variables: what an interrupted run goes on from.
    """

    def __init__(self, model: keras.Model, momentum: float):
        norms = [norm for norm in batch_norms(model) if norm.trainable]
        statistics = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]
        self._averaged = [*model.trainable_variables, *statistics]
        self._averages = [keras.Variable(variable, trainable=False) for variable in self._averaged]
        self._updates = keras.Variable(0, trainable=False, dtype="int32")
        self.variables = [self._updates, *self._averages]
        self._momentum = momentum
        self._swapped = False

    @tf.function
    def update(self) -> None:
        """Move the averages towards the weights, after a step."""
        kept = tf.where(self._updates.value > 0, self._momentum, 0.0)
        for variable, average in zip(self._averaged, self._averages, strict=True):
            old, new = (tf.cast(each.value, average.dtype) for each in (average, variable))
            average.assign(new + tf.cast(kept, average.dtype) * (old - new))
        self._updates.assign(self._updates.value + 1)

    def swap(self, averaged: bool) -> None:
        """Put the averages in the model and the weights in their place, or back, unless that is as it is to be."""
        if averaged == self._swapped:
            return
        for variable, average in zip(self._averaged, self._averages, strict=True):
            value = keras.ops.convert_to_numpy(variable)
            variable.assign(keras.ops.convert_to_numpy(average))
            average.assign(value)
        self._swapped = averaged


def load_mean(model: keras.Model, paths: Sequence[Path]) -> None:
    """Give `model` the mean of the weights in files, computed in float64; the statistics' is only near to right.

    Args:
        model: of `create_model`.
        paths: files of its weights, 1 or more.
    """
    sums: list[np.ndarray] = []
    for path in paths:
        load_weights(model, path)
        values = [value.astype(np.float64) for value in model.get_weights()]
        sums = [total + value for total, value in zip(sums, values, strict=True)] if sums else values
    model.set_weights([total / len(paths) for total in sums])
