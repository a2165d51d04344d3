"""Limits of the weights, which hold after every step: Keras' optimizers apply a variable's constraint."""

import keras
import tensorflow as tf

from kcnn.training.kernels import kernels, unit_axes, unit_norms


class KernelLimits(keras.constraints.Constraint):
    """A kernel within limits: first of each weight, then of the norm of each unit.

    Args:
        largest: of a weight's magnitude; 0 for no limit.
        norm: largest L2 norm of a unit's incoming weights (Srivastava et al., "Dropout", JMLR 2014, section 5.1); 0 for
            no limit.
        axes: those of a unit's inputs.
    """

    def __init__(self, largest: float, norm: float, axes: tuple[int, ...]):
        self.largest, self.norm, self.axes = largest, norm, axes

    def __call__(self, w: keras.Variable) -> tf.Tensor:
        """Return the weights that are nearest within the limits; what is within them stays as it is."""
        weights = tf.convert_to_tensor(w)
        if self.largest:
            weights = tf.clip_by_value(weights, -self.largest, self.largest)
        if self.norm:
            weights *= self.norm / tf.maximum(unit_norms(weights, self.axes), self.norm)  # 1 within it
        return weights


def constrain_kernels(model: keras.Model, *, largest: float, norm: float) -> None:
    """Keep the kernels of `model` that train within limits, from the next step on; see `KernelLimits`."""
    for layer, variable in kernels(model):
        limits = KernelLimits(largest, norm, unit_axes(layer, variable))
        variable.constraint = limits if largest or norm else None
