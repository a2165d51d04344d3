"""TrivialAugment."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image
from kcnn.data.input_pipeline.augmentations.kernels.operations import WIDE, apply_one

_LEVELS = 31


@per_image("trivialaugment")
def trivial_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Apply one of 14 operations at one of 31 levels (Müller and Hutter, "TrivialAugment", ICCV 2021, "Wide")."""
    choice, level, turn = tf.unstack(tf.random.stateless_uniform([3], seed))
    level = tf.floor(level * _LEVELS) / (_LEVELS - 1)
    return apply_one(WIDE, tf.cast(choice * len(WIDE), tf.int32), image, level, turn)
