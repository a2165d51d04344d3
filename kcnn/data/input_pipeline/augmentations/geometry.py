"""Geometry: an image is moved, turned, stretched or bent, and resampled once. Outside of it there is grey."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image
from kcnn.data.input_pipeline.augmentations.kernels.geometry import about_centre, bend, resample, rotation

_DEGREES = (0.0, 180.0)
_PART = (0.0, 1.0)
_SCALE = (0.1, 10.0)


@per_image("translate", max=_PART)
def translate(image: tf.Tensor, seed: tf.Tensor, *, max: float = 0.1) -> tf.Tensor:
    """Move an image by up to `max` of its sides, in both directions."""
    return affine(image, seed, degrees=0.0, translate=max, low=1.0, high=1.0, shear=0.0)


@per_image("rotate", max=_DEGREES)
def rotate(image: tf.Tensor, seed: tf.Tensor, *, max: float = 15.0) -> tf.Tensor:
    """Turn an image about its centre by up to `max` degrees, either way."""
    return affine(image, seed, degrees=max, translate=0.0, low=1.0, high=1.0, shear=0.0)


@per_image("scale", low=_SCALE, high=_SCALE)
def scale(image: tf.Tensor, seed: tf.Tensor, *, low: float = 0.8, high: float = 1.2) -> tf.Tensor:
    """Show an image `low` to `high` times as large, about its centre; the logarithm is uniform."""
    return affine(image, seed, degrees=0.0, translate=0.0, low=low, high=high, shear=0.0)


@per_image("shear", max=_PART)
def shear(image: tf.Tensor, seed: tf.Tensor, *, max: float = 0.2) -> tf.Tensor:
    """Move rows or columns by up to `max` times their distance from the centre, either way."""
    return affine(image, seed, degrees=0.0, translate=0.0, low=1.0, high=1.0, shear=max)


@per_image("affine", degrees=_DEGREES, translate=_PART, low=_SCALE, high=_SCALE, shear=_PART)
def affine(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    degrees: float = 15.0,
    translate: float = 0.1,
    low: float = 0.8,
    high: float = 1.2,
    shear: float = 0.1,
) -> tf.Tensor:
    """Turn, move, scale and shear an image in one resampling; the names are those of the single augmentations."""
    angle, x, y, size, slant, axis = tf.unstack(tf.random.stateless_uniform([6], seed, -1.0, 1.0))
    slant *= shear
    across = tf.where(axis < 0, slant, 0.0)
    slanted = tf.stack([[1.0, across], [slant - across, 1.0]])
    larger = low * (high / low) ** ((size + 1) / 2)
    matrix = about_centre(image, tf.linalg.matmul(rotation(angle * degrees), slanted) / larger)
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    moved = tf.stack([x * translate * width, y * translate * height])
    return resample(image, tf.concat([matrix[:, :2], (matrix[:, 2] + moved)[:, None]], axis=1), smooth=True)


@per_image("lens", max=_PART)
def lens(image: tf.Tensor, seed: tf.Tensor, *, max: float = 0.3) -> tf.Tensor:
    """Bend an image as a lens does, outwards or inwards: its corners by up to `max` of their distance (Brown 1966)."""
    return bend(image, tf.random.stateless_uniform([], seed, -max, max))
