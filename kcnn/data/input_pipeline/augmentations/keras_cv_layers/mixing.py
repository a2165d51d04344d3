"""keras-cv's CutMix and MixUp with seeded draws."""

from typing import Any

import keras_cv
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations.keras_cv_layers.draws import Draws


class _Mixing:
    """The common part of CutMix and MixUp: seeded draws in place of keras-cv's unseeded ones, and a plain call."""

    def __init__(self, alpha: float) -> None:
        super().__init__(alpha=alpha, dtype="float32")  # type: ignore[call-arg]
        self._draws = Draws()

    def augment(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Mix a batch; see `Augmentation.function`."""
        self._draws.begin(seed)
        mixed = self({"images": images, "labels": labels})  # type: ignore[operator]
        return tf.ensure_shape(mixed["images"], images.shape), tf.ensure_shape(mixed["labels"], labels.shape)

    def _permutation(self, count: tf.Tensor) -> tf.Tensor:
        return tf.random.experimental.stateless_shuffle(tf.range(count), self._draws.seed())

    def _sample_from_beta(self, alpha: float, beta: float, shape: Any) -> tf.Tensor:
        a = tf.random.stateless_gamma(shape, self._draws.seed(), alpha)
        b = tf.random.stateless_gamma(shape, self._draws.seed(), beta)
        return a / (a + b)


class CutMix(_Mixing, keras_cv.layers.CutMix):
    """keras-cv's CutMix with labels that weigh by the pasted pixels; keras-cv counts those outside of the image too."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)

    def _cutmix(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        count, height, width = tf.unstack(tf.shape(images)[:3])
        order = self._permutation(count)
        side = tf.sqrt(1.0 - self._sample_from_beta(self.alpha, self.alpha, [count]))

        def span(length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            """Return the rectangle's ends along an axis, clipped, int32 [B] each, and its mask, bool [B, length]."""
            size = tf.cast(side * tf.cast(length, tf.float32), tf.int32)
            begin = self._draws.uniform([count], 0, length, tf.int32) - size // 2
            begin, end = tf.maximum(begin, 0), tf.minimum(begin + size, length)
            place = tf.range(length)
            return begin, end, (place >= begin[:, None]) & (place < end[:, None])

        top, bottom, rows = span(height)
        left, right, columns = span(width)
        inside = (rows[:, :, None] & columns[:, None, :])[..., None]
        pasted = (bottom - top) * (right - left) / (height * width)
        centers = (left + right) / 2, (top + bottom) / 2
        mixed = tf.where(inside, tf.gather(images, order), images)
        return mixed, tf.cast(1 - pasted, tf.float32), order, centers[1], centers[0], right - left, bottom - top


class MixUp(_Mixing, keras_cv.layers.MixUp):
    """keras-cv's MixUp with seeded draws."""

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__(alpha)

    def _mixup(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        count = tf.shape(images)[0]
        order = self._permutation(count)
        weight = self._sample_from_beta(self.alpha, self.alpha, [count])
        # Written so that an image mixed with itself stays as it is to the bit, as in a batch of one.
        mixed = images + (1.0 - weight)[:, None, None, None] * (tf.gather(images, order) - images)
        return mixed, weight, order
