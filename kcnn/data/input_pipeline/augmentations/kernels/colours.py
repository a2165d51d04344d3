"""Colours: what changes each pixel by itself, and what the whole image's colours say how."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"
# RGB → luminance and two axes of colour (YIQ, NTSC 1953), in which saturation is a factor and hue an angle.
_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]], np.float32)
_OFFSETS = np.array([0.0, 256.0, 512.0], np.float32)


def _on_rows(kernel: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a function on images of one on rows."""

    def function(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(image)
        rows = kernel(tf.reshape(image, [shape[0], 3 * shape[1]]), strength)
        return tf.ensure_shape(tf.reshape(rows, shape), image.shape)

    function.__doc__ = kernel.__doc__
    return function


def _to_range(values: tf.Tensor) -> tf.Tensor:
    return tf.minimum(tf.maximum(values, 0.0), 255.0)


def _along(rows: tf.Tensor, of_channels: tf.Tensor) -> tf.Tensor:
    """Return a value for each channel, [3], repeated to a row's length."""
    return tf.tile(of_channels, [tf.shape(rows)[1] // 3])


def _of_channels(rows: tf.Tensor, reduce: Callable[..., tf.Tensor]) -> tf.Tensor:
    """Reduce rows to a value for each channel, [3]."""
    return reduce(tf.reshape(reduce(rows, axis=0), [-1, 3]), axis=0)


@_on_rows
def brighten(rows: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Multiply an image by a factor; 0 is black, 1 leaves it as it is (`PIL.ImageEnhance.Brightness`)."""
    return _to_range(rows * factor)


@_on_rows
def contrast(rows: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Move an image from its mean luminance by a factor; 0 is grey (`PIL.ImageEnhance.Contrast`)."""
    mean = tf.reduce_sum(_of_channels(rows, tf.reduce_mean) * LUMA)
    return _to_range(rows * factor + mean * (1 - factor))


@_on_rows
def solarize(rows: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Invert the values from a threshold on; 256 leaves an image as it is (`PIL.ImageOps.solarize`)."""
    return rows + tf.cast(rows >= threshold, tf.float32) * (255.0 - 2.0 * rows)


@_on_rows
def posterize(rows: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keep so many high bits of each value, 0 to 8 (`PIL.ImageOps.posterize`)."""
    step = 2.0 ** (8.0 - bits)
    return tf.floor(rows / step) * step


@_on_rows
def autocontrast(rows: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Stretch each channel to 0-255, unless it has one value alone (`PIL.ImageOps.autocontrast`).

    There is no strength to it.
    """
    low, high = _of_channels(rows, tf.reduce_min), _of_channels(rows, tf.reduce_max)
    scale = tf.where(high > low, 255.0 / tf.maximum(high - low, 1e-6), 1.0)
    offset = tf.where(high > low, -low * scale, 0.0)
    return _to_range(rows * _along(rows, scale) + _along(rows, offset))


@_on_rows
def equalize(rows: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Make each channel's histogram as even as a table of 256 entries can (`PIL.ImageOps.equalize`).

    There is no strength to it. Values are rounded down. keras-cv takes the rarest value's count where Pillow takes the
    highest value's, which in photos is mostly the same.
    """
    places = tf.cast(rows, tf.int32) + tf.cast(_along(rows, tf.constant(_OFFSETS)), tf.int32)
    counts = tf.reshape(tf.math.bincount(tf.reshape(places, [-1]), minlength=768, maxlength=768), [3, 256])
    last = 255 - tf.argmax(tf.reverse(counts, [1]) > 0, axis=1, output_type=tf.int32)
    step = (tf.reduce_sum(counts, axis=1) - tf.gather(counts, last, batch_dims=1)) // 255
    divisor = tf.maximum(step, 1)[:, None]
    table = tf.minimum((tf.cumsum(counts, axis=1, exclusive=True) + divisor // 2) // divisor, 255)
    table = tf.where(step[:, None] > 0, table, tf.range(256))
    return tf.gather(tf.cast(tf.reshape(table, [-1]), tf.float32), places)


@_on_rows
def invert(rows: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Return the negative (`PIL.ImageOps.invert`). There is no strength to it."""
    return 255.0 - rows


def mix_channels(image: tf.Tensor, matrix: tf.Tensor, offset: tf.Tensor | float = 0.0) -> tf.Tensor:
    """Return an affine map of each pixel's colour: `matrix @ colour + offset`, within 0-255.

    Args:
        image: float32 [h, w, 3].
        matrix: float32 [3, 3].
        offset: float32 [3] or scalar.
    """
    pixels = tf.matmul(tf.reshape(image, [-1, 3]), matrix, transpose_b=True)
    pixels = tf.nn.bias_add(pixels, tf.broadcast_to(offset, [3]))
    return tf.ensure_shape(tf.reshape(_to_range(pixels), tf.shape(image)), image.shape)


def saturate(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Move each pixel from its luminance by a factor; 0 is grey (`PIL.ImageEnhance.Color`)."""
    grey = np.tile(np.array(LUMA, np.float32), (3, 1))
    return mix_channels(image, factor * np.eye(3, dtype=np.float32) + (1 - factor) * grey)


def turned_colours(saturation: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Return the matrix, float32 [3, 3], that multiplies the saturation and turns the hue, by a part of the circle."""
    angle = 2 * np.pi * turn
    along, across = saturation * tf.cos(angle), saturation * tf.sin(angle)
    turned = tf.reshape(tf.stack([1.0, 0.0, 0.0, 0.0, along, -across, 0.0, across, along]), [3, 3])
    return np.linalg.inv(_YIQ) @ turned @ _YIQ
