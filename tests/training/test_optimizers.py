"""Schedule and weight decay, against their formulas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kcnn.training.optimizers import SGD, AdamW, build_optimizer, stage_multipliers, warmup_cosine


def test_warmup_is_linear_and_decay_is_half_a_cosine():
    schedule = warmup_cosine(0.8, steps=100, warmup=0.1)
    rates = np.array([float(schedule(step)) for step in range(100)])
    np.testing.assert_allclose(rates[:10], 0.08 + (0.8 - 0.08) * np.arange(10) / 10, rtol=1e-5)
    np.testing.assert_allclose(rates[10:], 0.4 * (1 + np.cos(np.pi * np.arange(90) / 90)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_train_too(steps):
    assert max(float(warmup_cosine(0.8, steps, 0.1)(step)) for step in range(steps)) > 0.3


@pytest.mark.parametrize(
    ("ours", "theirs", "arguments"),
    [
        (AdamW, keras.optimizers.AdamW, {"weight_decay": 0.01}),
        (AdamW, keras.optimizers.AdamW, {"weight_decay": 0.0, "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3}),
        (AdamW, keras.optimizers.AdamW, {"weight_decay": 0.01, "amsgrad": True}),
        (SGD, keras.optimizers.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
        (SGD, keras.optimizers.SGD, {"momentum": 0.8}),
        (SGD, keras.optimizers.SGD, {}),
    ],
)
def test_they_compute_what_keras_computes(ours, theirs, arguments):
    random = np.random.default_rng(0)
    shapes = [(3, 3, 4, 8), (8,), (5, 2)]
    starts = [random.normal(size=shape) for shape in shapes]
    steps = [[random.normal(size=shape) * 10.0 ** random.uniform(-3, 1) for shape in shapes] for _ in range(20)]
    ends = []
    for kind in (ours, theirs):
        variables = [keras.Variable(start) for start in starts]
        optimizer = kind(learning_rate=warmup_cosine(0.1, steps=20, warmup=0.2), **arguments)
        optimizer.build(variables)
        apply = tf.function(lambda gradients: optimizer.apply(gradients, variables))  # noqa: B023
        for step in steps:
            apply([tf.constant(gradient, tf.float32) for gradient in step])
        ends.append([variable.numpy() for variable in [*variables, *optimizer.variables]])
    for got, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_weight_decay_shrinks_kernels_and_nothing_else():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.DepthwiseConv2D(3)(x)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    schedule = warmup_cosine(0.5, steps=10, warmup=0.0)
    optimizer = build_optimizer("sgd", model, schedule=schedule, weight_decay=0.1)
    optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    for variable in model.trainable_variables:
        expected = 1 - 0.5 * 0.1 if "kernel" in variable.name else 1.0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_each_stage_learns_at_its_own_rate(name):
    """From equal gradients every variable moves by its factor, under Adam too."""
    inputs = keras.Input((4, 4, 3))
    x = inputs
    for stage in ("stem_conv", "stage1_conv", "stage2_conv"):
        x = keras.layers.Conv2D(3, 1, name=stage)(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head_logits")(x))
    before = [variable.numpy() for variable in model.trainable_variables]
    multipliers = stage_multipliers(model, 0.5)
    schedule = warmup_cosine(0.1, steps=10, warmup=0.0)
    optimizer = build_optimizer(name, model, schedule=schedule, weight_decay=0.0, multipliers=multipliers)
    apply = tf.function(lambda gradients: optimizer.apply(gradients, model.trainable_variables))
    apply([tf.ones_like(variable) for variable in model.trainable_variables])
    moved = [np.mean(b - v.numpy()) for b, v in zip(before, model.trainable_variables, strict=True)]
    np.testing.assert_allclose(np.array(moved) / moved[-1], [0.125, 0.125, 0.25, 0.25, 0.5, 0.5, 1, 1], rtol=1e-4)


def test_steps_stay_small_where_gradients_grow_late():
    """The squares of 200 small gradients, as at a solved head, do not make the steps after them large."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    optimizer = build_optimizer("adamw", model, schedule=0.001, weight_decay=0.0)
    (kernel,) = model.trainable_variables
    steps = []
    for gradient in [0.01] * 200 + [1.0] * 50:
        before = float(kernel.numpy().item())
        optimizer.apply([keras.ops.full((1, 1), gradient)])
        steps.append(abs(float(kernel.numpy().item()) - before))
    assert steps[-1] > 0.0009
    assert max(steps) < 0.002
