"""Optimizers, their schedule, and the variables that decay.

Both optimizers compute what Keras' optimizers of the same name compute. Each update is one kernel of TensorFlow, which
reads and writes a variable and its slots once; Keras 3 goes over them operation by operation. On two cores, a step of
MobileNetV2 with AdamW takes two thirds of the time.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import keras
import tensorflow as tf

from kcnn.models.spec import stages


@keras.saving.register_keras_serializable("kcnn")
class AdamW(keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019), with the arguments of Keras' AdamW.

    The updates, but not the decay, are multiplied by `multipliers`, a factor for each variable; by 1 where there are
    none.
    """

    multipliers: tuple[float, ...] = ()

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable; its weight decay is already applied."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate * _multiplier(self, variable))
            return
        index = self._get_variable_index(variable)
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=_handle(variable),
            m=_handle(self._momentums[index]),
            v=_handle(self._velocities[index]),
            beta1_power=tf.pow(tf.cast(self.beta_1, dtype), step),
            beta2_power=tf.pow(tf.cast(self.beta_2, dtype), step),
            lr=tf.cast(learning_rate, dtype) * _multiplier(self, variable),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable("kcnn")
class SGD(keras.optimizers.SGD):
    """Gradient descent with momentum, with the arguments of Keras' SGD; `multipliers` are as AdamW's."""

    multipliers: tuple[float, ...] = ()

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable; its weight decay is already applied."""
        rate = learning_rate * _multiplier(self, variable)
        if not self.momentum:
            super().update_step(gradient, variable, rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable),
            accum=_handle(self.momentums[self._get_variable_index(variable)]),
            lr=tf.cast(rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


def _multiplier(optimizer: AdamW | SGD, variable: tf.Variable) -> float:
    return optimizer.multipliers[optimizer._get_variable_index(variable)] if optimizer.multipliers else 1.0


def _handle(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    """Return the resource that kernels update; within an update under MirroredStrategy, this replica's."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


# The memory of the gradients' squares, 50 steps. With the usual 0.999, a short training remembers all. A solved head's
# first gradients are small; squares that remember them make the later steps too large, and the loss rises for good
# (Wortsman et al., "Stable and low-precision training for large-scale vision-language models", NeurIPS 2023, section 3,
# find the same cause of loss spikes).
BETA_2 = 0.98

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adamw": lambda **kwargs: AdamW(beta_2=BETA_2, **kwargs),
    "sgd": lambda **kwargs: SGD(momentum=0.9, nesterov=True, **kwargs),
}


def warmup_cosine(peak: float, steps: int, warmup: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a schedule that rises linearly from 0 to `peak`, then falls to 0 along half a cosine.

    Source: Loshchilov & Hutter, "SGDR", ICLR 2017 (cosine); Goyal et al., "Accurate, Large Minibatch SGD", 2017
    (warm-up).

    Args:
        peak: the highest learning rate.
        steps: of the whole schedule.
        warmup: the part of the steps over which the rate rises, 0 to 1.
    """
    rising = min(steps - 1, max(1, round(warmup * steps))) if warmup and steps > 1 else 0
    if not rising:
        return keras.optimizers.schedules.CosineDecay(peak, decay_steps=steps)
    return keras.optimizers.schedules.CosineDecay(
        peak / rising, decay_steps=steps - rising, warmup_target=peak, warmup_steps=rising
    )


def stage_multipliers(model: keras.Model, decay: float) -> dict[str, float]:
    """Return what multiplies the learning rate of each trainable variable: the head's 1, a stage's `decay` of the next.

    It multiplies the update. Adam's does not depend on a factor of the gradient.

    Args:
        model: of `create_model`: its layers' names begin with their stage.
        decay: above 0 to 1.

    Returns:
        a variable's path → its factor.
    """
    order = list(reversed(stages(model)))
    return {
        variable.path: decay ** order.index(layer.name.split("_")[0])
        for layer in model.layers
        for variable in layer.trainable_variables
    }


def build_optimizer(
    name: str,
    model: keras.Model,
    *,
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    weight_decay: float,
    multipliers: Mapping[str, float] = MappingProxyType({}),
) -> keras.optimizers.Optimizer:
    """Build an optimizer for the trainable variables of a model.

    Weight decay is decoupled from the gradient (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR
    2019) and acts on the kernels of convolutions and dense layers alone: not on biases, nor on normalisation's scale
    and shift.

    Args:
        name: a key of `OPTIMIZERS`.
        model: the model to train.
        schedule: of the learning rate.
        weight_decay: 0 for none.
        multipliers: a variable's path → what multiplies its learning rate; of others it is 1.
    """
    optimizer = OPTIMIZERS[name](learning_rate=schedule, weight_decay=weight_decay)
    optimizer.multipliers = tuple(multipliers.get(variable.path, 1.0) for variable in model.trainable_variables)
    if weight_decay:
        spared = [variable for variable in model.trainable_variables if "kernel" not in variable.name]
        optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(model.trainable_variables)
    return optimizer
