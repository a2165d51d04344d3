"""RandAugment as the paper has it, of keras-cv's layers."""

import functools
from collections.abc import Callable
from typing import Any

import keras_cv
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations.keras_cv_layers.draws import Draws

_RANGE = (0, 255)


class _Uniform(keras_cv.core.FactorSampler):
    """keras-cv's UniformFactorSampler, drawing from `draws`."""

    def __init__(self, draws: Draws, low: float, high: float) -> None:
        self._draws, self._low, self._high = draws, low, high

    def __call__(self, shape: Any = (), dtype: Any = tf.float32) -> tf.Tensor:
        return self._draws.uniform(shape, self._low, self._high, tf.as_dtype(dtype))


class RandAugment(keras_cv.layers.RandAugment):
    """RandAugment (Cubuk et al. 2019) with the paper's 14 operations (one is the identity), made of keras-cv's layers.

    keras-cv's own set has no rotation, posterization or sharpness, and its magnitude has another scale: 0.9 is three
    times the shear and twice the translation of the paper's 9, brightness up to white or black, and nearly every pixel
    solarized. Here the ranges are the paper's (AutoAugment, Cubuk et al. 2018, table 6). Each strength is drawn up to
    the magnitude, the paper's "random magnitude" (appendix A.1.1), which it finds as good as a constant one. Two
    differences remain: contrast turns around each channel's mean, and brightness adds, about as much as scaling changes
    the mean of a photo.

    Args:
        magnitude: 0 to 10.
        operations: the number of operations on an image, one after the other.
    """

    def __init__(self, magnitude: float = 9.0, operations: int = 2) -> None:
        super().__init__(_RANGE, augmentations_per_image=operations, magnitude=0.0, dtype="float32")
        self._draws = draws = Draws()
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
        """Augment an image; see `Augmentation.function`."""
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
        """Return a layer as a function of image and seed, not inlined: an operation that is not chosen costs little."""

        @tf.function(experimental_attributes={"_noinline": True}, reduce_retracing=True)
        def operation(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            self._draws.begin(seed)
            return layer(image)

        return operation
