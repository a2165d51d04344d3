"""The layers that compute what Keras' compute by ways of their own, in training above all: outputs and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kcnn.nn import convolutions
from kcnn.nn.convolutions import DepthwiseConv, GroupedConv
from kcnn.nn.layers import Crop
from kcnn.nn.normalization import LayerNorm, LayerScale

POLICIES = {"float32": 1e-5, "mixed_bfloat16": 3e-2, "mixed_float16": 4e-3}


def assert_same_training(theirs, ours, shape, policy="float32"):
    """Compare outputs in training and inference, and gradients of inputs and weights."""
    dtype = policy.removeprefix("mixed_")
    images = tf.cast(np.random.default_rng(0).normal(1, 2, shape), dtype)
    results = []
    for layer in (theirs, ours):
        layer.build(shape)
        rng = np.random.default_rng(1)
        layer.set_weights([rng.normal(size=v.shape) for v in layer.weights])
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True) if layer is ours else layer(images)
            loss = tf.reduce_mean(tf.cast(outputs, tf.float32) ** 3)
        gradients = tape.gradient(loss, [images, *(v.value for v in layer.trainable_variables)])
        results.append([outputs, layer(images), *gradients])
    for pair in zip(*results, strict=True):
        assert len({(x.shape, x.dtype) for x in pair}) == 1
        expected, found = (np.asarray(tf.cast(x, tf.float32)) for x in pair)
        assert np.abs(expected).max() > 0
        assert np.abs(expected - found).max() <= POLICIES[policy] * np.abs(expected).max()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", [(4, 5, 6, 7), (1, 1, 1, 96), (8, 33)], ids=str)
def test_layer_norm(shape, policy):
    settings = {"epsilon": 1e-6, "dtype": policy}
    assert_same_training(keras.layers.LayerNormalization(**settings), LayerNorm(**settings), shape, policy)


@pytest.mark.parametrize("arguments", [{"scale": False}, {"center": False}, {"axis": [1, 2, 3]}], ids=str)
def test_layer_norm_of_other_kinds_is_keras(arguments):
    assert_same_training(keras.layers.LayerNormalization(**arguments), LayerNorm(**arguments), (4, 5, 6, 7))


def test_layer_norm_in_float64_is_exact():
    layer = LayerNorm(dtype="float64")
    layer.build((2, 3))
    with tf.device("CPU"):
        theory, numeric = tf.test.compute_gradient(
            lambda x: layer(x, training=True), [tf.constant([[1.0, 2.0, 4.0], [0.5, -1.0, 0.25]], tf.float64)]
        )
    np.testing.assert_allclose(theory, numeric, atol=1e-6)


@pytest.mark.parametrize("policy", POLICIES)
def test_layer_scale(policy):
    class Reference(keras.layers.Layer):
        def build(self, shape):
            self.gamma = self.add_weight(name="gamma", shape=shape[-1:])

        def call(self, inputs):
            return inputs * self.gamma

    assert_same_training(Reference(dtype=policy), LayerScale(1e-6, dtype=policy), (2, 3, 4, 5), policy)
    layer = LayerScale(0.25)
    layer.build((None, 3, 3, 4))
    np.testing.assert_array_equal(layer.gamma, [0.25] * 4)


SIZES = [(7, 9), (3, 3), (1, 2), (16, 11)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [3, 5, 7, 4, (1, 7)], ids=str)
def test_depthwise_convolution(kernel_size, strides, padding, size):
    tall, wide = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    if padding == "valid" and (size[0] < tall or size[1] < wide):
        pytest.skip("no output")
    settings = {"strides": strides, "padding": padding, "activation": "silu"}
    theirs, ours = (kind(kernel_size, **settings) for kind in (keras.layers.DepthwiseConv2D, DepthwiseConv))
    assert_same_training(theirs, ours, (3, *size, 5))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("arguments", [{"use_bias": False}, {"depth_multiplier": 2}, {"dilation_rate": 2}], ids=str)
def test_depthwise_convolution_of_other_kinds(arguments, policy):
    settings = {"padding": "same", "dtype": policy, **arguments}
    theirs, ours = (kind(5, **settings) for kind in (keras.layers.DepthwiseConv2D, DepthwiseConv))
    assert_same_training(theirs, ours, (3, 8, 7, 5), policy)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_a_grouped_convolution_of_single_channels_is_a_depthwise_one(kernel_size, strides):
    theirs, ours = (
        kind(6, kernel_size, strides, "same", groups=6, activation="relu")
        for kind in (keras.layers.Conv2D, GroupedConv)
    )
    assert_same_training(theirs, ours, (3, 8, 7, 6))


def kinds_of_operations(layer, shape, dtype="float32"):
    layer.build(shape)

    @tf.function
    def gradients(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = layer(images, training=True)
        return tape.gradient(outputs, [images, layer.kernel.value])

    graph = gradients.get_concrete_function(tf.TensorSpec(shape, dtype)).graph
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_the_probe_for_gradients_of_grouped_convolutions_says_what_they_do(dtype):
    """In a traced function too, where layers ask: a tape within `tf.init_scope` answers None there, and no error."""
    images, kernel = tf.ones((1, 4, 4, 4), dtype), tf.ones((3, 3, 2, 4), dtype)
    try:
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            outputs = tf.nn.conv2d(images, kernel, 1, "SAME")
        differentiated = tape.gradient(outputs, kernel) is not None
    except tf.errors.OpError:
        differentiated = False
    asked = []

    @tf.function
    def trace():
        convolutions._grouped_gradients.cache_clear()
        asked.append(convolutions._grouped_gradients(dtype))

    trace()
    assert asked == [differentiated]


@pytest.mark.skipif(
    bool(tf.config.list_physical_devices("GPU")) or not convolutions._grouped_gradients("float32"),
    reason="a way of oneDNN's, on a CPU",
)
def test_large_kernels_alone_take_the_other_way():
    native = "DepthwiseConv2dNativeBackpropFilter"
    assert native not in kinds_of_operations(DepthwiseConv(5), (None, 8, 8, 3))
    assert native not in kinds_of_operations(GroupedConv(3, 7, groups=3), (None, 8, 8, 3))
    assert native in kinds_of_operations(DepthwiseConv(3), (None, 8, 8, 3))
    assert native in kinds_of_operations(DepthwiseConv(5), (None, None, None, 3))


def test_without_that_library_it_is_keras(monkeypatch):
    monkeypatch.setattr(convolutions, "_grouped_gradients", lambda dtype: False)
    assert "DepthwiseConv2dNativeBackpropFilter" in kinds_of_operations(DepthwiseConv(5), (None, 8, 8, 3))
    theirs, ours = (kind(5, 2, "same") for kind in (keras.layers.DepthwiseConv2D, DepthwiseConv))
    assert_same_training(theirs, ours, (3, 8, 7, 5))


@pytest.mark.parametrize("cropping", [((1, 0), (1, 0)), ((0, 0), (2, 1)), 1], ids=str)
def test_crop(cropping):
    assert_same_training(keras.layers.Cropping2D(cropping), Crop(cropping), (2, 5, 6, 3))


def test_they_are_kept_and_exported(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = LayerNorm(epsilon=1e-6)(DepthwiseConv(5, padding="same")(inputs))
    x = LayerScale(0.5)(Crop(((1, 0), (0, 0)))(x))
    model = keras.Model(inputs, GroupedConv(3, 7, padding="same", groups=3)(x))
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "model.keras")(images), model(images), rtol=1e-5)
    model.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(images), model(images), rtol=1e-5)
