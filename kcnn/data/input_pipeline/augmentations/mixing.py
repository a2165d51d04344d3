"""CutMix, MixUp and CowMix: the images of a batch are mixed with one another, and their labels too."""

import math

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_batch
from kcnn.data.input_pipeline.augmentations.keras_cv_layers.draws import shared_layer

_ALPHA = (0.01, 100.0)
_SPOT = (0.01, 1.0)
_PART = (0.01, 0.99)


@per_batch("cutmix", alpha=_ALPHA)
def cutmix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, *, alpha: float = 1.0) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a rectangle of one image into another; labels weigh by area (Yun et al. 2019, of alpha 1)."""
    from kcnn.data.input_pipeline.augmentations.keras_cv_layers.mixing import CutMix

    return shared_layer(CutMix, alpha).augment(images, labels, seed)


@per_batch("mixup", alpha=_ALPHA)
def mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, *, alpha: float = 0.2) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend pairs of images and their labels (Zhang et al. 2017)."""
    from kcnn.data.input_pipeline.augmentations.keras_cv_layers.mixing import MixUp

    return shared_layer(MixUp, alpha).augment(images, labels, seed)


@per_batch("cutmix_mixup", cutmix_alpha=_ALPHA, mixup_alpha=_ALPHA)
def cutmix_or_mixup(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, *, cutmix_alpha: float = 1.0, mixup_alpha: float = 0.2
) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply one of the two to each batch, with equal chances, as DeiT trains (Touvron et al. 2020, section 6)."""
    choice, own = tf.unstack(tf.random.split(seed, 2))
    return tf.cond(
        tf.random.stateless_uniform([], choice) < 0.5,
        lambda: cutmix(images, labels, own, alpha=cutmix_alpha),
        lambda: mixup(images, labels, own, alpha=mixup_alpha),
    )


@per_batch("cowmix", low=_SPOT, high=_SPOT, least=_PART, most=_PART)
def cowmix(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    *,
    low: float = 0.125,
    high: float = 0.5,
    least: float = 0.2,
    most: float = 0.8,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix pairs of images by masks of spots like a cow's; labels weigh by area.

    A mask is where smoothed noise lies below a quantile (French et al., "Milking CowMask for Semi-Supervised Image
    Classification", 2020, algorithm 1). Here the noise goes on around the edges.

    Args:
        images: float32 [B, h, w, 3].
        labels: float32 [B, C].
        seed: int [2].
        low: the least deviation of the Gaussian that smoothes, as a part of the shorter side.
        high: the largest; the logarithm is uniform.
        least: the least part of the other image that is expected.
        most: the largest.
    """
    of_order, of_noise, of_masks = tf.unstack(tf.random.split(seed, 3))
    count, height, width = tf.unstack(tf.shape(images)[:3])
    order = tf.random.experimental.stateless_shuffle(tf.range(count), of_order)
    draws = tf.random.stateless_uniform([2, count, 1, 1], of_masks)
    deviation = low * (high / low) ** draws[0] * tf.cast(tf.minimum(height, width), tf.float32)
    noise = tf.signal.rfft2d(tf.random.stateless_normal([count, height, width], of_noise))
    down = _frequencies(height, height)
    squares = down[:, None] ** 2 + _frequencies(width, width // 2 + 1) ** 2
    # The Fourier transform of a Gaussian is one, too.
    smooth = tf.exp(-2 * math.pi**2 * deviation**2 * squares)
    smoothed = tf.signal.irfft2d(noise * tf.cast(smooth, noise.dtype), [height, width])
    mean, variance = tf.nn.moments(smoothed, [1, 2], keepdims=True)
    threshold = mean + tf.sqrt(2 * variance) * tf.math.erfinv(2 * (least + (most - least) * draws[1]) - 1)
    other = smoothed <= threshold
    share = tf.reduce_mean(tf.cast(other, tf.float32), axis=[1, 2])[:, None]
    mixed = tf.where(other[..., None], tf.gather(images, order), images)
    return mixed, (1 - share) * labels + share * tf.gather(labels, order)


def _frequencies(length: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Return the first frequencies of a Fourier transform, cycles a pixel, as `numpy.fft.fftfreq` orders them."""
    numbers = tf.range(count)
    signed = tf.where(numbers <= (length - 1) // 2, numbers, numbers - length)
    return tf.cast(signed, tf.float32) / tf.cast(length, tf.float32)
