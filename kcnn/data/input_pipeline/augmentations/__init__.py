"""Augmentations, one file a kind: a function that is registered with `per_image` or `per_batch`. Only here is keras_cv.

An augmentation is pure: what it returns depends on its arguments alone, so that a seed gives the same batches in any
order, on any number of threads and after a restart.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from kcnn.registry import Registry

ImageFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
BatchFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """An augmentation.

    Attributes:
        function: per image, `(image, seed) -> image` on float32 [h, w, 3] in 0-255; per batch,
            `(images, labels, seed) -> (images, labels)` on float32 [B, h, w, 3] in 0-255 and float32 labels [B, C],
            one-hot or mixed already. The seed, an integer [2], is for `tf.random.stateless_*`.
        per_batch: whether the function takes batches.
    """

    function: Callable[..., Any]
    per_batch: bool


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation", "kcnn.data.input_pipeline.augmentations")


def per_image(name: str) -> Callable[[ImageFunction], ImageFunction]:
    """Return a decorator that registers a function on images."""
    return lambda function: _add(name, Augmentation(function, per_batch=False))


def per_batch(name: str) -> Callable[[BatchFunction], BatchFunction]:
    """Return a decorator that registers a function on batches."""
    return lambda function: _add(name, Augmentation(function, per_batch=True))


def _add(name: str, augmentation: Augmentation) -> Callable[..., Any]:
    return AUGMENTATIONS.add(name, augmentation, module=augmentation.function.__module__).function
