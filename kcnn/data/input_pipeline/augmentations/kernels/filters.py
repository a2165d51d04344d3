"""Filters: a pixel with its neighbours."""

import numpy as np
import tensorflow as tf

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13  # Pillow's ImageFilter.SMOOTH
_SAME = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)


def sharpen(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Move an image from its smoothed self by a factor; 0 smoothes (`PIL.ImageEnhance.Sharpness`).

    Smoothing and moving is one convolution. The outermost pixels stay as they are.
    """
    kernel = factor * _SAME + (1 - factor) * _SMOOTH
    inner = tf.nn.depthwise_conv2d(image[None], tf.tile(kernel[:, :, None, None], [1, 1, 3, 1]), [1, 1, 1, 1], "VALID")
    inner = tf.minimum(tf.maximum(inner[0], 0.0), 255.0)
    middle = tf.concat([image[1:-1, :1], inner, image[1:-1, -1:]], axis=1)
    return tf.ensure_shape(tf.concat([image[:1], middle, image[-1:]], axis=0), image.shape)


def blur(image: tf.Tensor, sigma: tf.Tensor, radius: int) -> tf.Tensor:
    """Blur with a Gaussian of deviation `sigma` in pixels, cut at `radius`; edges are reflected."""
    places = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.nn.softmax(-(places**2) / (2 * sigma**2))
    padded = tf.pad(image, [[radius, radius], [radius, radius], [0, 0]], "SYMMETRIC")[None]
    for shape in ([-1, 1, 1, 1], [1, -1, 1, 1]):
        kernel = tf.tile(tf.reshape(weights, shape), [1, 1, 3, 1])
        padded = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")
    return tf.ensure_shape(padded[0], image.shape)
