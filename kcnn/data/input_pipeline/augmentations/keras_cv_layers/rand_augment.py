"""keras-cv's RandAugment with seeded draws."""

from typing import Any

import keras_cv
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations.keras_cv_layers.draws import Draws
from kcnn.nn.keras_settings import dtype_policy


class _Seeded(keras_cv.core.FactorSampler):
    """One of keras-cv's normal samplers, drawing from `draws`."""

    def __init__(self, draws: Draws, sampler: Any) -> None:
        self._draws, self._sampler = draws, sampler

    def __call__(self, shape: Any = (), dtype: Any = tf.float32) -> tf.Tensor:
        own = self._sampler
        drawn = tf.random.stateless_normal(shape, self._draws.seed(), own.mean, own.stddev, tf.as_dtype(dtype))
        return tf.clip_by_value(drawn, own.min_value, own.max_value)


class _SeededUniform(keras_cv.core.FactorSampler):
    """One of keras-cv's uniform samplers, drawing from `draws`."""

    def __init__(self, draws: Draws, sampler: Any) -> None:
        self._draws, self._sampler = draws, sampler

    def __call__(self, shape: Any = (), dtype: Any = tf.float32) -> tf.Tensor:
        return self._draws.uniform(shape, self._sampler.lower, self._sampler.upper, tf.as_dtype(dtype))


_SEEDED = {keras_cv.core.NormalFactorSampler: _Seeded, keras_cv.core.UniformFactorSampler: _SeededUniform}


class RandAugment(keras_cv.layers.RandAugment):
    """keras-cv's RandAugment as it is, but for the draws.

    Args:
        operations: on an image, one after the other.
        magnitude: 0 to 1.
    """

    def __init__(self, operations: int = 3, magnitude: float = 0.5) -> None:
        with dtype_policy("float32"):  # of the layers that this one makes
            super().__init__((0, 255), augmentations_per_image=operations, magnitude=magnitude)
        self._draws = draws = Draws()
        for layer in (self, self._random_choice, *self.layers):
            layer._random_generator = draws
            for name, value in list(vars(layer).items()):
                if type(value) in _SEEDED:
                    setattr(layer, name, _SEEDED[type(value)](draws, value))

    def augment(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Augment an image; see `Augmentation.function`."""
        self._draws.begin(seed)
        return tf.ensure_shape(self(image), image.shape)
