"""Optimizers, their schedule, and what decays.

Both compute what Keras' do, each update on one kernel of TensorFlow's, which reads and writes a variable and what goes
with it once, where Keras 3 goes over them operation by operation: on two cores, a step of MobileNetV2 with AdamW takes
two thirds of the time.
"""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kcnn")
class AdamW(keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019). Takes the arguments of Keras'."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable, whose decay was before."""
        if self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
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
            lr=tf.cast(learning_rate, dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=tf.cast(gradient, dtype),
        )


@keras.saving.register_keras_serializable("kcnn")
class SGD(keras.optimizers.SGD):
    """Gradient descent with momentum. Takes the arguments of Keras'."""

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """One step of one variable, whose decay was before."""
        if not self.momentum:
            super().update_step(gradient, variable, learning_rate)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=_handle(variable),
            accum=_handle(self.momentums[self._get_variable_index(variable)]),
            lr=tf.cast(learning_rate, variable.dtype),
            grad=tf.cast(gradient, variable.dtype),
            momentum=self.momentum,
            use_nesterov=self.nesterov,
        )


def _handle(variable: Any) -> tf.Tensor:
    """What kernels know a variable by; within an update under MirroredStrategy, this replica's."""
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


OPTIMIZERS = {
    "adamw": AdamW,
    "sgd": lambda **kwargs: SGD(momentum=0.9, nesterov=True, **kwargs),
}


def warmup_cosine(peak: float, steps: int, warmup: float) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear from 0 to `peak` over the first `warmup` part of `steps`, then half a cosine down to 0.

    Loshchilov & Hutter, "SGDR", ICLR 2017 (cosine); Goyal et al., "Accurate, Large Minibatch SGD", 2017 (warm-up).
    """
    rising = min(steps - 1, max(1, round(warmup * steps))) if warmup and steps > 1 else 0
    if not rising:
        return keras.optimizers.schedules.CosineDecay(peak, decay_steps=steps)
    return keras.optimizers.schedules.CosineDecay(
        peak / rising, decay_steps=steps - rising, warmup_target=peak, warmup_steps=rising
    )


def build_optimizer(
    name: str, model: keras.Model, *, schedule: keras.optimizers.schedules.LearningRateSchedule, weight_decay: float
) -> keras.optimizers.Optimizer:
    """The optimizer of `name`, built for the model's trainable variables.

    Weight decay is decoupled from the gradient (Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR
    2019) and acts on the kernels of convolutions and dense layers alone: not on biases, nor on normalisation's scale
    and shift.
    """
    optimizer = OPTIMIZERS[name](learning_rate=schedule, weight_decay=weight_decay or None)
    if weight_decay:
        spared = [variable for variable in model.trainable_variables if "kernel" not in variable.name]
        optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(model.trainable_variables)
    return optimizer
