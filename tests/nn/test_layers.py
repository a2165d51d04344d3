"""BatchNorm against keras.layers.BatchNormalization, in every mode, and the other layers."""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from kcnn.nn.blocks import Ops
from kcnn.nn.convolutions import PointwiseConv
from kcnn.nn.layers import ReverseChannels, StochasticDepth
from kcnn.nn.normalization import BatchNorm

SHAPES = [(4, 5, 6, 7), (8, 1, 1, 3), (1, 1, 1, 3), (16, 5)]


def pair(shape, policy="float32", **arguments):
    layers = [
        kind(momentum=0.8, epsilon=1e-3, dtype=policy, **arguments)
        for kind in (keras.layers.BatchNormalization, BatchNorm)
    ]
    rng = np.random.default_rng(0)
    values = None
    for layer in layers:
        layer.build(shape)
        values = values or [rng.uniform(0.5, 2, v.shape) for v in layer.weights]
        layer.set_weights(values)
    return layers


def batches(shape, dtype):
    rng = np.random.default_rng(1)
    return [tf.cast(rng.normal(3, 2, shape), dtype) for _ in range(3)]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "arguments", [{}, {"scale": False}, {"center": False}, {"scale": False, "center": False}], ids=str
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_it_is_keras_batch_norm(shape, arguments, policy):
    theirs, ours = pair(shape, policy, **arguments)
    dtype = policy.removeprefix("mixed_")
    tolerance = {"float32": 2e-5, "bfloat16": 2e-2, "float16": 2e-3}[dtype]
    for batch in batches(shape, dtype):
        results = []
        for layer in (theirs, ours):
            with tf.GradientTape() as tape:
                tape.watch(batch)
                outputs = layer(batch, training=True)
                loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
            gradients = tape.gradient(loss, [batch, *(v.value for v in layer.trainable_variables)])
            results.append([outputs, *gradients, *layer.weights])
        for pair_of_results in zip(*results, strict=True):
            assert len({tf.as_dtype(x.dtype) for x in pair_of_results}) == 1
            expected, found = (np.asarray(tf.cast(x, tf.float32)) for x in pair_of_results)
            np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(
        *(tf.cast(layer(batches(shape, dtype)[0]), tf.float32) for layer in (theirs, ours)),
        rtol=tolerance,
        atol=tolerance,
    )


def test_frozen_it_runs_in_inference_mode():
    theirs, ours = pair((4, 5, 6, 7))
    before = [w.copy() for w in ours.get_weights()]
    (batch, *_) = batches((4, 5, 6, 7), "float32")
    for layer in (theirs, ours):
        layer.trainable = False
    np.testing.assert_allclose(ours(batch, training=True), theirs(batch, training=True), rtol=1e-5, atol=1e-5)
    for a, b in zip(before, ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not ours.trainable_variables


def test_in_a_graph_of_unknown_batch_size():
    theirs, ours = pair((None, 5, 6, 7))
    (batch, *_) = batches((4, 5, 6, 7), "float32")

    def step(layer):
        return tf.function(lambda x: layer(x, training=True), input_signature=[tf.TensorSpec((None, None, None, 7))])

    np.testing.assert_allclose(step(ours)(batch), step(theirs)(batch), rtol=1e-5, atol=1e-5)
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_it_runs_fused():
    _, ours = pair((None, 5, 6, 7))
    graph = tf.function(lambda x: ours(x, training=True)).get_concrete_function(tf.TensorSpec((4, 5, 6, 7))).graph
    assert "FusedBatchNormV3" in {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("case", ["mask", "renorm", "float64"])
def test_what_the_kernel_cannot_do_is_keras(case):
    arguments = {"renorm": True} if case == "renorm" else {}
    theirs, ours = pair((4, 5, 6, 7), "float64" if case == "float64" else "float32", **arguments)
    batch = batches((4, 5, 6, 7), "float64" if case == "float64" else "float32")[0]
    mask = np.random.default_rng(0).random((4, 5, 6)) < 0.5 if case == "mask" else None
    np.testing.assert_array_equal(ours(batch, training=True, mask=mask), theirs(batch, training=True, mask=mask))
    for a, b in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("arguments", [{}, {"use_bias": False}, {"strides": 2}, {"activation": "relu"}], ids=str)
def test_pointwise_convolution_is_keras_convolution(arguments, policy):
    dtype = policy.removeprefix("mixed_")
    images = tf.cast(np.random.default_rng(0).normal(size=(4, 5, 6, 7)), dtype)
    results = []
    for kind in (keras.layers.Conv2D, PointwiseConv):
        layer = kind(8, 1, dtype=policy, **arguments)
        layer.build(images.shape)
        rng = np.random.default_rng(1)
        layer.set_weights([rng.normal(size=v.shape) for v in layer.weights])
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
            loss = tf.reduce_mean(tf.cast(outputs, tf.float32) ** 2)
        results.append([outputs, layer(images), *tape.gradient(loss, [images, *(v.value for v in layer.weights)])])
    tolerance = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}[dtype]
    for theirs, ours in zip(*results, strict=True):
        assert (theirs.shape, theirs.dtype) == (ours.shape, ours.dtype)
        expected, found = (np.asarray(tf.cast(x, tf.float32)) for x in (theirs, ours))
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="on GPUs it is a convolution always")
def test_pointwise_convolution_is_a_product_in_training_alone():
    layer = PointwiseConv(8, 1)
    for training, kind in ((True, "MatMul"), (False, "Conv2D")):
        function = tf.function(functools.partial(layer, training=training))
        graph = function.get_concrete_function(tf.TensorSpec((4, 5, 6, 7))).graph
        assert {"MatMul", "Conv2D"} & {operation.type for operation in graph.get_operations()} == {kind}


@pytest.mark.parametrize("size", [(7, 8), (8, 7)], ids=str)
@pytest.mark.parametrize(("pool_size", "strides"), [(3, 2), (5, 2), (5, 3)])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_symmetric_max_pooling_leaves_its_margin_out(policy, pool_size, strides, size):
    """By the definition: the greatest of the pixels in the window, to which alone the gradient goes."""
    dtype, margin = policy.removeprefix("mixed_"), (pool_size - 1) // 2
    images = tf.cast(np.random.default_rng(0).normal(-5, 1, (2, *size, 3)), dtype)  # below zero
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((*size, 3), dtype=dtype)
        pooled = Ops(padding="symmetric").max_pool(inputs, pool_size, strides, name="stem_pool")
    finally:
        keras.config.set_dtype_policy("float32")
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = keras.Model(inputs, pooled)(images)
    found, gradient = (np.asarray(tf.cast(x, tf.float32)) for x in (outputs, tape.gradient(outputs, images)))
    values = np.asarray(tf.cast(images, tf.float32))
    starts = [range(-margin, side + margin - pool_size + 1, strides) for side in size]
    expected, winners = np.empty((2, *map(len, starts), 3)), np.zeros(values.shape)
    for n, (i, top), (j, left), c in itertools.product(range(2), *map(enumerate, starts), range(3)):
        window = np.s_[n, max(top, 0) : top + pool_size, max(left, 0) : left + pool_size, c]
        expected[n, i, j, c] = values[window].max()
        first = np.unravel_index(values[window].argmax(), values[window].shape)
        winners[window][first] += 1
    assert outputs.dtype == pooled.dtype == dtype
    assert pooled.shape == (None, *found.shape[1:])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(gradient, winners)


def test_stochastic_depth_drops_whole_samples():
    images = np.random.default_rng(0).normal(size=(4000, 2, 3, 2)).astype(np.float32)
    layer = StochasticDepth(0.3, seed=1)
    np.testing.assert_array_equal(layer(images), images)
    outputs = layer(images, training=True).numpy()
    dropped = (outputs == 0).all((1, 2, 3))
    assert abs(dropped.mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    np.testing.assert_allclose(outputs[~dropped], images[~dropped] / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(StochasticDepth(0.3, seed=1)(images, training=True), outputs)
    assert (layer(images, training=True).numpy() != outputs).any()  # the next draw is another
    np.testing.assert_array_equal(StochasticDepth(0.0)(images, training=True), images)


def test_layers_are_serialisable(tmp_path):
    inputs = keras.Input((5, 6, 3))
    x = StochasticDepth(0.25, seed=3, name="depth")(ReverseChannels()(inputs))
    x = Ops(padding="symmetric").max_pool(PointwiseConv(3, 1)(x), 3, 2, name="pool")
    model = keras.Model(inputs, BatchNorm(momentum=0.7, scale=False)(x))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.layers[-1].momentum == 0.7
    assert (again.get_layer("depth").rate, again.get_layer("depth").seed) == (0.25, 3)
    images = np.random.default_rng(0).normal(size=(2, 5, 6, 3))
    np.testing.assert_allclose(again(images), model(images))
    np.testing.assert_array_equal(ReverseChannels()(images), images[..., ::-1].astype(np.float32))
