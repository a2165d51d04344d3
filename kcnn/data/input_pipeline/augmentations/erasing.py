"""Erasing: a part of each image is hidden."""

import math
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image

_PART = (0.0, 1.0)
_ATTEMPTS = 10


def _rectangle(image: tf.Tensor, begin: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return where a rectangle lies, bool [h, w, 1]: its begin and size in pixels, int32 [2] of y and x."""
    height, width = tf.unstack(tf.shape(image)[:2])
    rows, columns = tf.range(height), tf.range(width)
    inside = ((rows >= begin[0]) & (rows < begin[0] + size[0]))[:, None]
    return (inside & ((columns >= begin[1]) & (columns < begin[1] + size[1])))[..., None]


def channel_means(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return the mean colour of images, float32 [3]."""
    return np.mean([image.mean(axis=(0, 1), dtype=np.float64) for image in images], axis=0).astype(np.float32)


@per_image("cutout", size=(0.01, 1.0), holes=(1, 16), fit=channel_means)
def cutout(
    image: tf.Tensor, seed: tf.Tensor, *, size: float = 0.5, holes: int = 1, fitted: np.ndarray | None = None
) -> tf.Tensor:
    """Hide squares under the mean colour of the training images (DeVries and Taylor 2017).

    A square's centre is anywhere in the image, so that it may lie partly outside of it.

    Args:
        image: float32 [h, w, 3].
        seed: int [2].
        size: of a square's side, as a part of the image's; 0.5 is the paper's for CIFAR-10, 0.25 for CIFAR-100.
        holes: how many squares.
        fitted: what `channel_means` returns.
    """
    shape = tf.shape(image)[:2]
    side = tf.cast(tf.round(size * tf.cast(tf.reduce_min(shape), tf.float32)), tf.int32)
    draws = tf.random.stateless_uniform([holes, 2], seed)
    for draw in tf.unstack(draws):
        begin = tf.cast(draw * tf.cast(shape, tf.float32), tf.int32) - side // 2
        image = tf.where(_rectangle(image, begin, tf.stack([side, side])), fitted, image)
    return image


@per_image("random_erasing", p=_PART, low=(0.001, 1.0), high=(0.001, 1.0), ratio=(0.01, 1.0), fill=("noise", "grey"))
def random_erasing(
    image: tf.Tensor,
    seed: tf.Tensor,
    *,
    p: float = 0.5,
    low: float = 0.02,
    high: float = 0.4,
    ratio: float = 0.3,
    fill: str = "noise",
) -> tf.Tensor:
    """Hide a rectangle of a part `p` of the images under noise (Zhong et al., "Random Erasing", AAAI 2020, table 4).

    An image in which none of ten rectangles fits stays as it is.

    Args:
        image: float32 [h, w, 3].
        seed: int [2].
        p: the part of the images.
        low: the least area, as a part of the image's.
        high: the largest area.
        ratio: the least ratio of height to width; the largest is its inverse. The logarithm is uniform.
        fill: "noise", a random value from 0 to 255 for each, or "grey".
    """
    of_places, of_noise = tf.unstack(tf.random.split(seed, 2))
    chosen = tf.random.stateless_uniform([], tf.random.fold_in(of_places, 0)) < p
    draws = tf.random.stateless_uniform([_ATTEMPTS, 4], of_places)
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    area = (low + (high - low) * draws[:, 0]) * tf.reduce_prod(shape)
    proportion = tf.exp((2 * draws[:, 1] - 1) * math.log(1 / ratio))
    sizes = tf.round(tf.sqrt(tf.stack([area * proportion, area / proportion], axis=1)))
    fits = tf.reduce_all((sizes < shape) & (sizes > 0), axis=1)
    first = tf.argmax(fits)
    size = tf.gather(sizes, first)
    begin = tf.floor(tf.gather(draws, first)[2:] * (shape - size + 1))

    def erase() -> tf.Tensor:
        noise = tf.random.stateless_uniform(tf.shape(image), of_noise, 0.0, 255.0) if fill == "noise" else 127.5
        return tf.where(_rectangle(image, tf.cast(begin, tf.int32), tf.cast(size, tf.int32)), noise, image)

    return tf.cond(chosen & tf.reduce_any(fits), erase, lambda: tf.identity(image))
