"""Optimizers by name, with the variables that decay and the rates of stages.

Those that Keras has are Keras'; those of most trainings are fused (`kcnn.training.fused_optimizers`).
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import keras
import tensorflow as tf

from kcnn.models.spec import stages
from kcnn.training.fused_optimizers import SGD, Adam
from kcnn.training.muon import Muon, paths_for_adamw

# The memory of the gradients' squares, 50 steps. With the usual 0.999, a short training remembers all. A solved head's
# first gradients are small; squares that remember them make the later steps too large, and the loss rises for good
# (Wortsman et al., "Stable and low-precision training for large-scale vision-language models", NeurIPS 2023, section 3,
# find the same cause of loss spikes).
BETA_2 = 0.98

# `kcnn.optimizer_defaults` has the rates and decays that go with them.
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "sgd": SGD,
    "momentum": functools.partial(SGD, momentum=0.9),
    "nesterov": functools.partial(SGD, momentum=0.9, nesterov=True),
    "rmsprop": keras.optimizers.RMSprop,
    "adam": Adam,
    "adamw": functools.partial(Adam, beta_2=BETA_2),
    "lamb": keras.optimizers.Lamb,
    "lion": keras.optimizers.Lion,
    "adafactor": keras.optimizers.Adafactor,
    "muon": functools.partial(Muon, adam_beta_2=BETA_2),
}


def stage_multipliers(model: keras.Model, decay: float) -> dict[str, float]:
    """Return what multiplies the learning rate of each trainable variable: the head's 1, a stage's `decay` of the next.

    It multiplies the update. Adam's does not depend on a factor of the gradient.

    Args:
        model: of `create_model`: its layers' names begin with their stage.
        decay: above 0 to 1.

    Returns:
        a variable's path → its factor; nothing where all rates are the same.
    """
    if decay == 1:
        return {}
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

    Weight decay is decoupled from the gradient in all of them (Loshchilov & Hutter, "Decoupled Weight Decay
    Regularization", ICLR 2019): before the update, rate x decay x weight is taken off. It acts on the kernels of
    convolutions and dense layers alone: not on biases, nor on normalisation's scale and shift.

    Args:
        name: a key of `OPTIMIZERS`.
        model: the model to train.
        schedule: of the learning rate.
        weight_decay: 0 for none.
        multipliers: a variable's path → what multiplies its learning rate, but not its decay; of others it is 1.
    """
    optimizer = OPTIMIZERS[name](learning_rate=schedule, weight_decay=weight_decay or None)
    if isinstance(optimizer, Muon):
        optimizer.exclude_layers = paths_for_adamw(model)
    if multipliers:
        _multiply_rates(optimizer, [multipliers.get(variable.path, 1.0) for variable in model.trainable_variables])
    if weight_decay:
        spared = [variable for variable in model.trainable_variables if "kernel" not in variable.name]
        optimizer.exclude_from_weight_decay(var_list=spared)
    optimizer.build(model.trainable_variables)
    return optimizer


def _multiply_rates(optimizer: keras.optimizers.Optimizer, factors: list[float]) -> None:
    """Make an optimizer multiply the rate at which it updates each of its variables by a factor of its own."""
    update = optimizer.update_step

    def update_at_own_rate(gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        update(gradient, variable, learning_rate * factors[optimizer._get_variable_index(variable)])

    setattr(optimizer, "update_step", update_at_own_rate)  # noqa: B010 - to mypy, methods are not assigned to
