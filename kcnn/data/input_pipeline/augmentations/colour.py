"""Colours and light. Most are one affine map of a pixel's colour."""

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image
from kcnn.data.input_pipeline.augmentations.kernels import colours, filters

_STRENGTH = (0.0, 1.0)
_TURN = (0.0, 0.5)
_PART = (0.0, 1.0)


@per_image("colour", strength=_STRENGTH, turn=_TURN, grey=_PART)
def jitter_colour(
    image: tf.Tensor, seed: tf.Tensor, *, strength: float = 0.4, turn: float = 0.1, grey: float = 0.1
) -> tf.Tensor:
    """Change brightness, contrast, saturation and hue; one image in ten becomes grey.

    All of it is one affine map of a pixel's colour. Contrast turns around the middle of the range.

    Args:
        image: float32 [h, w, 3].
        seed: int [2].
        strength: brightness, contrast and saturation are multiplied by `1 - strength` to `1 + strength`.
        turn: the hue turns by this part of the circle at most, either way.
        grey: the part of the images that lose all colour.
    """
    draws = tf.random.stateless_uniform([5], seed, -1.0, 1.0)
    brightness, contrast, saturation = tf.unstack(1 + strength * draws[:3])
    saturation = tf.where(draws[4] < 2 * grey - 1, 0.0, saturation)
    matrix = brightness * contrast * colours.turned_colours(saturation, turn * draws[3])
    return colours.mix_channels(image, matrix, 127.5 * brightness * (1 - contrast))


def _draw_factor(seed: tf.Tensor, most: float) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, 1 - most, 1 + most)


@per_image("brightness", max=_STRENGTH)
def brightness(image: tf.Tensor, seed: tf.Tensor, *, max: float = 0.4) -> tf.Tensor:
    """Multiply an image by `1 - max` to `1 + max`."""
    return colours.brighten(image, _draw_factor(seed, max))


@per_image("contrast", max=_STRENGTH)
def contrast(image: tf.Tensor, seed: tf.Tensor, *, max: float = 0.4) -> tf.Tensor:
    """Multiply the distance from the mean luminance by `1 - max` to `1 + max`."""
    return colours.contrast(image, _draw_factor(seed, max))


@per_image("saturation", max=_STRENGTH)
def saturation(image: tf.Tensor, seed: tf.Tensor, *, max: float = 0.4) -> tf.Tensor:
    """Multiply the distance from grey by `1 - max` to `1 + max`."""
    return colours.saturate(image, _draw_factor(seed, max))


@per_image("hue", max=_TURN)
def hue(image: tf.Tensor, seed: tf.Tensor, *, max: float = 0.1) -> tf.Tensor:
    """Turn the hue by a part of the circle, `max` at most, either way; the luminance stays."""
    turn = tf.random.stateless_uniform([], seed, -max, max)
    return colours.mix_channels(image, colours.turned_colours(tf.constant(1.0), turn))


@per_image("grayscale", p=_PART)
def grayscale(image: tf.Tensor, seed: tf.Tensor, *, p: float = 0.2) -> tf.Tensor:
    """Remove the colour of a part `p` of the images."""
    return colours.saturate(image, tf.cast(tf.random.stateless_uniform([], seed) >= p, tf.float32))


@per_image("blur", p=_PART, low=(0.05, 10.0), high=(0.05, 10.0))
def blur(image: tf.Tensor, seed: tf.Tensor, *, p: float = 0.5, low: float = 0.1, high: float = 2.0) -> tf.Tensor:
    """Blur a part `p` of the images, by a Gaussian whose deviation is `low` to `high` pixels.

    So SimCLR does at 224 pixels (Chen et al., ICML 2020, appendix A); with its cut, at 5% of the side.
    """
    chosen, deviation = tf.unstack(tf.random.stateless_uniform([2], seed))
    radius = max(1, round(0.05 * min(image.shape[0], image.shape[1])))
    return tf.cond(
        chosen < p, lambda: filters.blur(image, low + (high - low) * deviation, radius), lambda: tf.identity(image)
    )


def colour_components(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return the principal components of images' colours, each times its eigenvalue, the columns of float32 [3, 3].

    Colours are of range 0 to 1, as AlexNet's noise takes them: in 0 to 255, an eigenvalue would exceed the range.
    """
    count, total, products = 0, np.zeros(3), np.zeros((3, 3))
    for image in images:
        pixels = image.reshape(-1, 3).astype(np.float64) / 255
        count, total, products = count + len(pixels), total + pixels.sum(axis=0), products + pixels.T @ pixels
    mean = total / count
    values, vectors = np.linalg.eigh(products / count - np.outer(mean, mean))
    return (vectors * np.maximum(values, 0)).astype(np.float32)


@per_image("pca_color", std=(0.0, 10.0), fit=colour_components)
def pca_colour(image: tf.Tensor, seed: tf.Tensor, *, std: float = 0.1, fitted: np.ndarray | None = None) -> tf.Tensor:
    """Add the training images' principal colours, each times its eigenvalue and a normal number of deviation `std`.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012, 4.1.

    Args:
        image: float32 [h, w, 3].
        seed: int [2].
        std: of the normal numbers.
        fitted: what `colour_components` returns.
    """
    noise = tf.random.stateless_normal([3], seed, stddev=std)
    return colours.mix_channels(image, tf.eye(3), 255 * tf.linalg.matvec(fitted, noise))
