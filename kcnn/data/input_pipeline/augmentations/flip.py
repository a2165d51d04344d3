"""Mirroring."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image


@per_image("flip", mirrors=True)
def flip(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirror an image left and right in one case of two."""
    return tf.image.stateless_random_flip_left_right(image, seed)
