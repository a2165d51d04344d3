"""Seeded random numbers for keras-cv's layers, which draw from a generator with state, and in places from unseeded ops.

`Draws` takes the place of both.
"""

import functools
from typing import Any

import tensorflow as tf


class Draws:
    """Stands in for a layer's `tf.random.Generator`: each draw of a call has its own seed, from the call's."""

    def __init__(self) -> None:
        self._seed: tf.Tensor | None = None
        self._count = 0

    def begin(self, seed: tf.Tensor) -> None:
        """Make the draws from here on follow from `seed`, integer [2]."""
        self._seed, self._count = seed, 0

    def seed(self) -> tf.Tensor:
        """Return a seed, integer [2], that was not returned before since `begin`."""
        self._count += 1
        return tf.random.fold_in(self._seed, self._count)

    def uniform(self, shape: Any, minval: Any = 0, maxval: Any = 1, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """Draw uniform numbers, with the arguments of `tf.random.Generator.uniform`."""
        return tf.random.stateless_uniform(shape, self.seed(), minval, maxval, dtype)


@functools.cache
def shared_layer(kind: type, *arguments: Any) -> Any:
    """Return the process's one layer of a kind and of arguments; made outside of any graph, as it has variables."""
    with tf.init_scope():
        return kind(*arguments)
