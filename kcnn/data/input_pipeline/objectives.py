"""Objectives: a network learns to predict an image's class or, where images have none, how the image was changed.

Of the objective "distill" only the number of classes stands here: its answers are a teacher's, and are computed where
the network trains (`kcnn.training.distillation`).
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from kcnn.registry import Registry


@dataclasses.dataclass(frozen=True)
class Objective:
    """An objective.

    Attributes:
        function: (image float32 [h, w, 3], class index, seed int [2]) → (image, index of the right answer).
        classes: number of answers; None for the data set's classes.
    """

    function: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    classes: int | None = None


OBJECTIVES: Registry[Objective] = Registry("objective")
OBJECTIVES.add("classes", Objective(lambda image, label, seed: (image, label)))
OBJECTIVES.add("distill", Objective(lambda image, label, seed: (image, label), classes=1000))  # ImageNet's


def rotate(image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Turn an image by 0, 90, 180 or 270 degrees, and return the number of quarters: to predict it needs the content.

    Source: Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018.

    Args:
        image: float32 [s, s, 3].
        label: ignored.
        seed: int [2].

    Returns:
        the image, float32 [s, s, 3], and the number of quarters, int64 scalar from 0 to 3.
    """
    turns = tf.random.stateless_uniform([], seed, 0, 4, tf.int32)
    turned = tf.image.rot90(image, turns)
    turned.set_shape(image.shape)
    return turned, tf.cast(turns, tf.int64)


OBJECTIVES.add("rotation", Objective(rotate, classes=4))
