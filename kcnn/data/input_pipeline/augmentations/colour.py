"""Colours."""

import numpy as np
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image

STRENGTH = 0.4  # brightness, contrast and saturation are multiplied by 1 - STRENGTH to 1 + STRENGTH
TURN = 0.1  # the hue turns by this part of the circle at most, either way
GREY = 0.1  # the part of the images that lose all colour
# RGB → luminance and two axes of colour (YIQ, NTSC 1953), in which saturation is a factor and hue an angle.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)


@per_image("colour")
def jitter_colour(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue; one image in ten becomes grey.

    All of it is one affine map of a pixel's colour. Contrast turns around the middle of the range.
    """
    draws = tf.random.stateless_uniform([5], seed, -1.0, 1.0)
    brightness, contrast, saturation = tf.unstack(1 + STRENGTH * draws[:3])
    angle = 2 * np.pi * TURN * draws[3]
    saturation = tf.where(draws[4] < 2 * GREY - 1, 0.0, saturation)
    along, across = saturation * tf.cos(angle), saturation * tf.sin(angle)
    turned = tf.reshape(tf.stack([1.0, 0.0, 0.0, 0.0, along, -across, 0.0, across, along]), [3, 3])
    colours = brightness * contrast * (np.linalg.inv(_YIQ) @ turned @ _YIQ)
    pixels = tf.matmul(tf.reshape(image, [-1, 3]), colours, transpose_b=True) + 127.5 * brightness * (1 - contrast)
    return tf.reshape(tf.clip_by_value(pixels, 0.0, 255.0), tf.shape(image))
