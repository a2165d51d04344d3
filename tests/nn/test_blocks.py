"""Blocks and preprocessing against Keras' own."""

import keras
import numpy as np
import pytest
from keras.src.applications.mobilenet_v2 import _make_divisible

from kcnn.nn.blocks import Ops, make_divisible
from kcnn.nn.preprocessing import normalize_pixels


def test_make_divisible_is_the_reference_rule():
    for channels in np.arange(0.5, 400, 0.7):
        assert make_divisible(channels) == _make_divisible(channels, 8)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_preprocessing_is_keras_applications(mode, policy):
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 6, 3)).astype(np.float32)
    expected = keras.applications.imagenet_utils.preprocess_input(images.copy(), mode=mode)
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((5, 6, 3), dtype="float32")
        found = keras.Model(inputs, normalize_pixels(inputs, mode))(images)
    finally:
        keras.config.set_dtype_policy("float32")
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def test_no_preprocessing_and_an_unknown_one():
    inputs = keras.Input((5, 6, 3))
    assert normalize_pixels(inputs, "none") is inputs
    with pytest.raises(ValueError, match="unknown preprocessing 'tff'"):
        normalize_pixels(inputs, "tff")


@pytest.mark.parametrize("channels", [24, 32, 48])
def test_group_and_layer_normalisation(channels):
    images = np.random.default_rng(0).normal(2, 3, (2, 4, 5, channels)).astype(np.float32)
    inputs = keras.Input((4, 5, channels))
    for norm, groups in (("layer", 1), ("group", {24: 8, 32: 32, 48: 16}[channels])):
        found = keras.Model(inputs, Ops(norm=norm, norm_epsilon=1e-5).normalize(inputs, name=f"{norm}_norm"))(images)
        grouped = images.reshape(2, 20, groups, channels // groups)
        mean, variance = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
        expected = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(images.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_depthwise_kernels_keep_the_variance():
    """He's initialisation by the true fan-in: a depthwise convolution and ReLU neither shrink nor blow up a signal."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32, 32, 256))
    outputs = keras.layers.ReLU()(Ops().depthwise(inputs, 3, name="stage1_depthwise"))
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 256)).astype(np.float32)
    assert np.mean(np.square(keras.Model(inputs, outputs)(images))) == pytest.approx(1, rel=0.15)
