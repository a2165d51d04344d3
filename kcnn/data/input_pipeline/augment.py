"""Augmentations, by name; the only importer of keras_cv.

An augmentation is a function registered with `per_image` or `per_batch`, and pure: what it returns depends on its
arguments alone, so that a seed gives the same batches in any order, on any number of threads and after a restart.
keras-cv's layers draw from a generator with state, and in places from unseeded ops; `_Draws` takes the place of both.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras_cv
import tensorflow as tf

from kcnn.registry import Registry

_RANGE = (0, 255)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What a name stands for.

    Attributes:
        function: per image, `(image, seed) -> image` on float32 [h, w, 3] in 0-255; per batch,
            `(images, labels, seed) -> (images, labels)` on float32 [B, h, w, 3] in 0-255 and float32 labels [B, C],
            one-hot or mixed already. The seed, an integer [2], is for `tf.random.stateless_*`.
        per_batch: which of the two.
    """

    function: Callable[..., Any]
    per_batch: bool


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation")


def _add(name: str, augmentation: Augmentation) -> Callable:
    return AUGMENTATIONS.add(name, augmentation, module=augmentation.function.__module__).function


def per_image(name: str) -> Callable[[Callable], Callable]:
    """Registers a function on images."""
    return lambda function: _add(name, Augmentation(function, per_batch=False))


def per_batch(name: str) -> Callable[[Callable], Callable]:
    """Registers a function on batches."""
    return lambda function: _add(name, Augmentation(function, per_batch=True))


@per_image("flip")
def flip(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Mirrors left and right in one case of two."""
    return tf.image.stateless_random_flip_left_right(image, seed)


@per_image("randaugment")
def rand_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """RandAugment with two operations of magnitude 9, the ResNet-50 setting of Cubuk et al. 2019, table 4."""
    return _layer(RandAugment).augment(image, seed)


@per_batch("cutmix")
def cutmix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pastes a rectangle of one image into another; labels weigh by area (Yun et al. 2019, alpha 1)."""
    return _layer(CutMix).augment(images, labels, seed)


@per_batch("mixup")
def mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blends pairs of images and their labels (Zhang et al. 2017, alpha 0.2)."""
    return _layer(MixUp).augment(images, labels, seed)


@per_batch("cutmix_mixup")
def cutmix_or_mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """For each batch one of the two, with equal chances, as DeiT trains (Touvron et al. 2020, section 6)."""
    choice, own = tf.unstack(tf.random.split(seed, 2))
    return tf.cond(
        tf.random.stateless_uniform([], choice) < 0.5,
        lambda: cutmix(images, labels, own),
        lambda: mixup(images, labels, own),
    )


class _Draws:
    """Takes the place of a layer's `tf.random.Generator`: each draw of a call has its own seed, from the call's."""

    def __init__(self) -> None:
        self._seed: tf.Tensor | None = None
        self._count = 0

    def begin(self, seed: tf.Tensor) -> None:
        """Draws from here on follow from `seed`."""
        self._seed, self._count = seed, 0

    def seed(self) -> tf.Tensor:
        """A seed not given before since `begin`."""
        self._count += 1
        return tf.random.fold_in(self._seed, self._count)

    def uniform(self, shape: Any, minval: Any = 0, maxval: Any = 1, dtype: tf.DType = tf.float32) -> tf.Tensor:
        """As `tf.random.Generator.uniform`."""
        return tf.random.stateless_uniform(shape, self.seed(), minval, maxval, dtype)


class _Uniform(keras_cv.core.FactorSampler):
    """keras-cv's UniformFactorSampler, drawing from `draws`."""

    def __init__(self, draws: _Draws, low: float, high: float) -> None:
        self._draws, self._low, self._high = draws, low, high

    def __call__(self, shape: Any = (), dtype: Any = tf.float32) -> tf.Tensor:
        return self._draws.uniform(shape, self._low, self._high, tf.as_dtype(dtype))


class RandAugment(keras_cv.layers.RandAugment):
    """RandAugment (Cubuk et al. 2019) with the paper's 14 operations (one is the identity), made of keras-cv's layers.

    keras-cv's own set has no rotation, posterization or sharpness, and its magnitude means other things: 0.9 is three
    times the shear and twice the translation of the paper's 9, brightness up to white or black, and nearly every pixel
    solarized. Here the ranges are the paper's (AutoAugment, Cubuk et al. 2018, table 6). Each strength is drawn up to
    the magnitude, the paper's "random magnitude" (appendix A.1.1), which it finds as good as a constant one. Where the
    layers differ still: contrast turns around each channel's mean; brightness adds, about as much as scaling changes
    the mean of a photo.

    Args:
        magnitude: 0 to 10.
        operations: how many are applied to an image, one after the other.
    """

    def __init__(self, magnitude: float = 9.0, operations: int = 2) -> None:
        super().__init__(_RANGE, augmentations_per_image=operations, magnitude=0.0, dtype="float32")
        self._draws = draws = _Draws()
        m = magnitude / 10
        enhance = _Uniform(draws, -0.9 * m, 0.9 * m)  # the paper's factors 0.1 to 1.9, less 1
        layers = keras_cv.layers
        fill = {"fill_mode": "constant", "fill_value": 128.0, "dtype": "float32"}
        contrast = layers.RandomContrast(_RANGE, 0.0, dtype="float32")
        contrast.factor = _Uniform(draws, 1 - 0.9 * m, 1 + 0.9 * m)
        shear = _Uniform(draws, 0.0, 0.3 * m)
        self.layers = [
            layers.AutoContrast(_RANGE, dtype="float32"),
            layers.Equalization(_RANGE, dtype="float32"),
            layers.RandomRotation(m * 30 / 360, **fill),
            layers.Solarization(_RANGE, threshold_factor=_Uniform(draws, 256 * (1 - m), 256.0), dtype="float32"),
            layers.RandomColorDegeneration(enhance, dtype="float32"),
            layers.Posterization(_RANGE, bits=8 - round(4 * m), dtype="float32"),
            contrast,
            layers.RandomBrightness(_Uniform(draws, -0.4 * m, 0.4 * m), dtype="float32"),
            layers.RandomSharpness(enhance, _RANGE, dtype="float32"),
            layers.RandomShear(x_factor=shear, **fill),
            layers.RandomShear(y_factor=shear, **fill),
            layers.RandomTranslation(height_factor=0.0, width_factor=m * 150 / 331, **fill),
            layers.RandomTranslation(height_factor=m * 150 / 331, width_factor=0.0, **fill),
        ]
        for layer in self.layers:
            layer._random_generator = draws
        self._operations = [self._operation(layer) for layer in self.layers]

    def augment(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """See `Augmentation.function`."""
        self._draws.begin(seed)
        return tf.ensure_shape(self(image), image.shape)

    def _augment(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        image = inputs["images"]
        choices = self._draws.uniform([self.augmentations_per_image], 0, 1 + len(self._operations), tf.int32)
        seeds = [self._draws.seed() for _ in range(self.augmentations_per_image)]
        for choice, own in zip(tf.unstack(choices), seeds, strict=True):
            branches = [functools.partial(operation, image, own) for operation in self._operations]
            image = tf.switch_case(choice, [*branches, functools.partial(tf.identity, image)])
        return {"images": image}

    def _operation(self, layer: Any) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        """One layer as a function of image and seed, not inlined: so the operations not chosen cost next to nothing."""

        @tf.function(experimental_attributes={"_noinline": True}, reduce_retracing=True)
        def operation(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            self._draws.begin(seed)
            return layer(image)

        return operation


class _Mixing:
    """What CutMix and MixUp share: seeded draws in place of keras-cv's unseeded ones, and a plain way to call them."""

    def __init__(self, alpha: float) -> None:
        super().__init__(alpha=alpha, dtype="float32")  # type: ignore[call-arg]
        self._draws = _Draws()

    def augment(self, images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Augmentation.function`."""
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
    """keras-cv's CutMix with labels that weigh by the pixels pasted; keras-cv counts those outside of the image too."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__(alpha)

    def _cutmix(self, images: tf.Tensor) -> tuple[tf.Tensor, ...]:
        count, height, width = tf.unstack(tf.shape(images)[:3])
        order = self._permutation(count)
        side = tf.sqrt(1.0 - self._sample_from_beta(self.alpha, self.alpha, [count]))

        def span(length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            """Where the rectangle begins and ends along an axis, clipped, int32 [B]; and the mask, bool [B, length]."""
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


@functools.cache
def _layer(kind: type) -> Any:
    """One layer of a kind for the process; outside of any graph, since keras-cv makes variables."""
    with tf.init_scope():
        return kind()
