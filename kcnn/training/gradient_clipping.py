"""Gradients that are made smaller before a step: by norm, by value, or by the size of the weights.

Keras' own clipping takes place on each device before gradients are added up, so that several devices would train
otherwise than one. Here the sum is clipped.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from kcnn.training.kernels import unit_axes, unit_norms

# gradients of all variables → the clipped ones
Clip = Callable[[list[tf.Tensor]], list[tf.Tensor]]

_LEAST_WEIGHTS = 1e-3  # the norm as which smaller weights count: those that begin at 0 could never leave it


def clip_gradients(
    optimizer: keras.optimizers.Optimizer, model: keras.Model, *, norm: float, value: float, adaptive: float
) -> None:
    """Make an optimizer clip its gradients before every step; 0 leaves a way of clipping out.

    Args:
        optimizer: for the variables of `model` that train.
        model: of `create_model`, or a part of one.
        norm: the largest L2 norm of all gradients together, which keep their direction (Pascanu et al., ICML 2013).
        value: the largest magnitude of each number.
        adaptive: the largest norm of a unit's gradient over that of its weights (Brock et al., "High-Performance
            Large-Scale Image Recognition Without Normalization", ICML 2021, section 4); the last linear layers'
            gradients stay as they are.
    """
    if norm:
        _install(optimizer, lambda gradients: tf.clip_by_global_norm(gradients, norm)[0])
    if value:
        _install(optimizer, lambda gradients: [tf.clip_by_value(each, -value, value) for each in gradients])
    if adaptive:
        layers = {variable.path: layer for layer in model.layers for variable in layer.trainable_variables}
        units = [(layers[variable.path], variable) for variable in model.trainable_variables]
        _install(optimizer, lambda gradients: _clip_adaptively(gradients, units, adaptive))


def _install(optimizer: keras.optimizers.Optimizer, clip: Clip) -> None:
    """Put `clip` in the place of the optimizer's own clipping, which Keras calls with unscaled gradients."""

    def clip_sum(gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        replica = tf.distribute.get_replica_context()
        count = replica.num_replicas_in_sync
        clipped = clip(list(replica.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))))
        return [gradient / count for gradient in clipped]  # which the optimizer adds up again

    setattr(optimizer, "_clip_gradients", clip_sum)  # noqa: B010 - to mypy, methods are not assigned to


def _clip_adaptively(
    gradients: list[tf.Tensor], units: Sequence[tuple[keras.layers.Layer, keras.Variable]], factor: float
) -> list[tf.Tensor]:
    return [
        gradient if _is_last(layer) else _clip_units(gradient, variable, unit_axes(layer, variable), factor)
        for gradient, (layer, variable) in zip(gradients, units, strict=True)
    ]


def _is_last(layer: keras.layers.Layer) -> bool:
    """Return whether a layer is that of a classifier's logits; auxiliary classifiers' too."""
    return layer.name.startswith("head_") and layer.name.endswith("logits")


def _clip_units(gradient: tf.Tensor, variable: keras.Variable, axes: tuple[int, ...], factor: float) -> tf.Tensor:
    largest = factor * tf.maximum(unit_norms(tf.convert_to_tensor(variable), axes), _LEAST_WEIGHTS)
    return gradient * largest / tf.maximum(unit_norms(gradient, axes), largest)
