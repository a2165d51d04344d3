"""Optimizers, their schedule, and what decays."""

import keras

OPTIMIZERS = {
    "adamw": keras.optimizers.AdamW,
    "sgd": lambda **kwargs: keras.optimizers.SGD(momentum=0.9, nesterov=True, **kwargs),
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
