"""What a network learns to tell of an image: its class or, where images have none, what was done to it."""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from kcnn.registry import Registry


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a name stands for.

    Attributes:
        function: (image float32 [h, w, 3], class index, seed int [2]) → (image, index of what is to be told).
        classes: how many answers there are; None for the data set's classes.
    """

    function: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    classes: int | None = None


OBJECTIVES: Registry[Objective] = Registry("objective")
OBJECTIVES.add("classes", Objective(lambda image, label, seed: (image, label)))


def rotate(image: tf.Tensor, label: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The image turned by 0, 90, 180 or 270 degrees, and by which: who can tell has seen what the image shows
    (Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018).

    Args:
        image: float32 [s, s, 3].
        label: not looked at.
        seed: int [2].
    """
    turns = tf.random.stateless_uniform([], seed, 0, 4, tf.int32)
    turned = tf.image.rot90(image, turns)
    turned.set_shape(image.shape)
    return turned, tf.cast(turns, tf.int64)


OBJECTIVES.add("rotation", Objective(rotate, classes=4))
