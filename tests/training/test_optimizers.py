"""Optimizers against their definitions in NumPy; the variables that decay; the rates of stages."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kcnn.training.fused_optimizers import SGD, Adam
from kcnn.training.optimizers import BETA_2, OPTIMIZERS, build_optimizer, stage_multipliers
from kcnn.training.schedules import warmup_cosine


@pytest.mark.parametrize(
    ("ours", "theirs", "arguments"),
    [
        (Adam, keras.optimizers.AdamW, {"weight_decay": 0.01}),
        (Adam, keras.optimizers.Adam, {"beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3}),
        (Adam, keras.optimizers.AdamW, {"weight_decay": 0.01, "amsgrad": True}),
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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_shrinks_kernels_and_nothing_else(name):
    """Gradients of zero move nothing, so that what moves is decay: rate x decay of a kernel."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.DepthwiseConv2D(3)(x)
    x = keras.layers.BatchNormalization()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    for variable in model.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    schedule = warmup_cosine(0.5, steps=10, warmup=0.0)
    optimizer = build_optimizer(name, model, schedule=schedule, weight_decay=0.1)
    optimizer.apply([keras.ops.zeros_like(variable) for variable in model.trainable_variables])
    for variable in model.trainable_variables:
        expected = 1 - 0.5 * 0.1 if "kernel" in variable.name else 1.0
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_stage_learns_at_its_own_rate(name):
    """With the rates of stages, every variable moves by its factor of what it moves without."""
    inputs = keras.Input((4, 4, 3))
    x = inputs
    for stage in ("stem_conv", "stage1_conv", "stage2_conv"):
        x = keras.layers.Conv2D(3, 1, name=stage)(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(2, name="head_logits")(x))
    start, moves = model.get_weights(), []
    for multipliers in ({}, stage_multipliers(model, 0.5)):
        model.set_weights(start)
        schedule = warmup_cosine(0.1, steps=10, warmup=0.0)
        optimizer = build_optimizer(name, model, schedule=schedule, weight_decay=0.0, multipliers=multipliers)
        optimizer.apply([tf.random.stateless_normal(value.shape, (0, index)) for index, value in enumerate(start)])
        moves.append([np.linalg.norm(a - b) for a, b in zip(start, model.get_weights(), strict=True)])
    ratios = np.array(moves[1]) / moves[0]
    np.testing.assert_allclose(ratios, [0.125, 0.125, 0.25, 0.25, 0.5, 0.5, 1, 1], rtol=1e-3)


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


def numpy_sgd(rate, momentum=0.0, nesterov=False):
    """Sutskever et al., ICML 2013: v = m v - rate g; w += v, or with Nesterov's look ahead m v - rate g."""

    def step(w, g, state, t):
        v = state["v"] = momentum * state.get("v", 0.0) - rate * g
        return w + (momentum * v - rate * g if nesterov else v)

    return step


def numpy_rmsprop(rate):
    """Tieleman & Hinton, 2012: the mean square forgets a tenth a step."""

    def step(w, g, state, t):
        state["v"] = 0.9 * state.get("v", 0.0) + 0.1 * g**2
        return w - rate * g / np.sqrt(state["v"] + 1e-7)

    return step


def numpy_adam(rate, beta_2=0.999, trust=False):
    """Kingma & Ba, ICLR 2015, Algorithm 1; with `trust`, You et al., ICLR 2020, Algorithm 2 without its decay."""

    def step(w, g, state, t):
        state["m"] = 0.9 * state.get("m", 0.0) + 0.1 * g
        state["v"] = beta_2 * state.get("v", 0.0) + (1 - beta_2) * g**2
        update = state["m"] / (1 - 0.9**t) / (np.sqrt(state["v"] / (1 - beta_2**t)) + 1e-7)
        return w - rate * update * (np.linalg.norm(w) / np.linalg.norm(update) if trust else 1.0)

    return step


def numpy_lion(rate):
    """Chen et al., NeurIPS 2023, Algorithm 2."""

    def step(w, g, state, t):
        m = state.get("m", 0.0)
        state["m"] = 0.99 * m + 0.01 * g
        return w - rate * np.sign(0.9 * m + 0.1 * g)

    return step


def numpy_adafactor(rate):
    """Shazeer & Stern, ICML 2018, Algorithms 4 and 5, for each matrix of the last two axes."""

    def step(w, g, state, t):
        beta, square = 1 - t**-0.8, g**2 + 1e-30
        if w.ndim < 2:
            v = state["v"] = beta * state.get("v", 0.0) + (1 - beta) * square
        else:
            rows = state["r"] = beta * state.get("r", 0.0) + (1 - beta) * square.mean(axis=-1)
            columns = state["c"] = beta * state.get("c", 0.0) + (1 - beta) * square.mean(axis=-2)
            v = (rows / rows.mean(axis=-1, keepdims=True))[..., None] * columns[..., None, :]
        u = g / np.sqrt(v)
        u /= max(1.0, np.sqrt((u**2).mean()))
        return w - max(1e-3, np.sqrt((w**2).mean())) * min(rate, 1 / np.sqrt(t)) * u

    return step


def newton_schulz(matrix):
    """Five steps of Jordan's quintic iteration on [out, in * H * W], as he writes it."""
    x = matrix / (np.linalg.norm(matrix) + 1e-7)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def numpy_muon(rate):
    """Jordan, 2024, with the scale of Liu et al., 2025: 0.2 sqrt(max(in, out)); vectors are Adam's."""
    adam = numpy_adam(rate, BETA_2)

    def step(w, g, state, t):
        if w.ndim < 2:
            return adam(w, g, state, t)
        m = state["m"] = 0.95 * state.get("m", 0.0) + g
        matrix = (g + 0.95 * m).reshape(-1, w.shape[-1]).T  # of [H, W, in, out]: [out, H * W * in]
        update = 0.2 * np.sqrt(max(matrix.shape)) * newton_schulz(matrix)
        return w - rate * update.T.reshape(w.shape)

    return step


DEFINITIONS = {
    "sgd": numpy_sgd,
    "momentum": lambda rate: numpy_sgd(rate, 0.9),
    "nesterov": lambda rate: numpy_sgd(rate, 0.9, nesterov=True),
    "rmsprop": numpy_rmsprop,
    "adam": numpy_adam,
    "adamw": lambda rate: numpy_adam(rate, BETA_2),
    "lamb": lambda rate: numpy_adam(rate, trust=True),
    "lion": numpy_lion,
    "adafactor": numpy_adafactor,
    "muon": numpy_muon,
}


def small_model():
    """Build a convolution, a dense layer that is wider than high, and logits."""
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="stem_conv")(inputs)
    x = keras.layers.GlobalAveragePooling2D(name="stage1_pool")(x)
    return keras.Model(inputs, keras.layers.Dense(7, name="stage1_dense")(x))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_three_steps_are_those_of_the_definition(name):
    model, rng = small_model(), np.random.default_rng(0)
    model.set_weights([rng.normal(size=value.shape) for value in model.get_weights()])
    expected, states = [w.astype(np.float64) for w in model.get_weights()], [{} for _ in model.get_weights()]
    optimizer = build_optimizer(name, model, schedule=0.03, weight_decay=0.1)
    apply, step = tf.function(optimizer.apply), DEFINITIONS[name](0.03)
    for t in (1, 2, 3):
        gradients = [rng.normal(size=value.shape) for value in expected]
        apply([tf.constant(gradient, tf.float32) for gradient in gradients])
        for index, (w, g) in enumerate(zip(expected, gradients, strict=True)):
            decayed = w * (1 - 0.03 * 0.1) if w.ndim > 1 else w
            expected[index] = step(decayed, g, states[index], t)
    for got, value in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=2e-4, atol=2e-5)


def test_muon_makes_the_update_of_a_convolution_orthogonal():
    """All singular values of the matrix [out, in * H * W] come near to one another, whatever those of the gradient."""
    model = small_model()
    optimizer = build_optimizer("muon", model, schedule=1.0, weight_decay=0.0)
    before, rng = model.get_weights()[0], np.random.default_rng(1)
    gradients = [rng.normal(size=value.shape) * np.linspace(1, 5, value.shape[-1]) for value in model.weights]
    optimizer.apply([tf.constant(gradient, tf.float32) for gradient in gradients])
    move = (before - model.get_weights()[0]).reshape(-1, 4) / (0.2 * np.sqrt(27))
    given, made = (np.linalg.svd(each, compute_uv=False) for each in (gradients[0].reshape(-1, 4), move))
    assert given.max() / given.min() > 4
    assert 0.6 < made.min() < made.max() < 1.3


def test_muon_leaves_classifiers_and_depthwise_kernels_to_adam():
    """Adam's first step moves every number by the rate; an orthogonal one does not."""
    inputs = keras.Input((6, 6, 4))
    x = keras.layers.Conv2D(4, 1, name="stem_conv")(inputs)
    x = keras.layers.DepthwiseConv2D(3, name="stage1_depthwise")(x)
    x = keras.layers.Conv2D(8, 1, groups=2, name="stage1_grouped")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head_logits")(x))
    before, rng = model.get_weights(), np.random.default_rng(1)
    optimizer = build_optimizer("muon", model, schedule=0.01, weight_decay=0.0)
    optimizer.apply([tf.constant(rng.normal(size=value.shape), tf.float32) for value in before])
    even = {
        variable.path: np.ptp(np.abs(b - a)) < 1e-4
        for variable, b, a in zip(model.weights, before, model.get_weights(), strict=True)
    }
    assert {path for path, same in even.items() if not same} == {"stem_conv/kernel", "stage1_grouped/kernel"}
