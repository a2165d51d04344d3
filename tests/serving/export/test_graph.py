"""Folding moves scales and offsets into weights, and changes no answer."""

from collections import Counter

import keras
import numpy as np
import pytest
from tensorflow.python.util import _pywrap_util_port
from tiny_classifier import tiny_model

from kcnn.nn.convolutions import GroupedConv
from kcnn.serving.export.dtypes import in_bfloat16, in_half_size
from kcnn.serving.export.folding import add_grouped_biases, fold
from kcnn.serving.export.network import as_function, freeze

NEEDS_ONEDNN = pytest.mark.skipif(
    not _pywrap_util_port.IsMklEnabled(), reason="TensorFlow rewrites graphs to bfloat16 with oneDNN alone"
)


def kinds(network):
    return Counter(node.op for node in network.graph.node)


def model_of(*layers, size=12, channels=3):
    """Return a model whose weights are all random."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((size, size, channels))
    x = inputs
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    random = np.random.default_rng(0)
    for weight in model.weights:
        positive = weight.name in ("moving_variance", "gamma")
        weight.assign(random.uniform(0.5, 1.5, weight.shape) if positive else random.normal(0, 0.3, weight.shape))
    return model


def norm():
    return keras.layers.BatchNormalization()


CASES = {
    "convolution": ([keras.layers.Conv2D(8, 3), norm()], {"Conv2D": 1, "BiasAdd": 1}),
    "with its own bias": ([keras.layers.Conv2D(8, 3, padding="same"), norm(), norm()], {"Conv2D": 1, "BiasAdd": 1}),
    "depthwise": (
        [keras.layers.DepthwiseConv2D(3, depth_multiplier=2), norm()],
        {"DepthwiseConv2dNative": 1, "BiasAdd": 1},
    ),
    "grouped": ([keras.layers.Conv2D(8, 1), GroupedConv(8, 3, groups=2), norm()], {"Conv2D": 2, "BiasAdd": 2}),
    "pixels in front of it": (
        [keras.layers.Rescaling([1 / 50, 1 / 60, 1 / 70], [-2, -1, 0.5]), keras.layers.Conv2D(8, 3, strides=2)],
        {"Conv2D": 1, "BiasAdd": 1},
    ),
    "pixels in front of margins of zeros": (
        [keras.layers.Rescaling(1 / 50, -2), keras.layers.Conv2D(8, 3, padding="same")],
        {"Mul": 1, "AddV2": 1, "Conv2D": 1, "BiasAdd": 1},
    ),
    "a scale in front of margins of zeros": (
        [keras.layers.Rescaling(1 / 50), keras.layers.Conv2D(8, 3, padding="same")],
        {"Conv2D": 1, "BiasAdd": 1},
    ),
    "in front of 1x1": (
        [keras.layers.ReLU(), norm(), keras.layers.Conv2D(8, 1)],
        {"Relu": 1, "Conv2D": 1, "BiasAdd": 1},
    ),
    "in front of depthwise": (
        [keras.layers.ReLU(), norm(), keras.layers.DepthwiseConv2D(3)],
        {"Relu": 1, "DepthwiseConv2dNative": 1, "BiasAdd": 1},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_stands_next_to_a_convolution_goes_into_it(case):
    layers, expected = CASES[case]
    model = model_of(*layers)
    folded = fold(freeze(model))
    found = kinds(folded)
    assert {op: found[op] for op in found if op not in ("Const", "Placeholder", "Identity", "Mean")} == expected
    images = np.random.default_rng(2).uniform(0, 255, (2, 12, 12, 3)).astype(np.float32)
    forward, _ = as_function(add_grouped_biases(folded))
    np.testing.assert_allclose(forward(images)[0], model(images, training=False), rtol=1e-4, atol=1e-4)


def test_what_several_take_from_stays():
    inputs = keras.Input((8, 8, 3))
    convolved = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    both = keras.layers.Add()([convolved, keras.layers.BatchNormalization()(convolved)])
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(both))
    model.layers[2].moving_variance.assign(np.full(4, 5.0))
    images = np.random.default_rng(2).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)
    forward, _ = as_function(fold(freeze(model)))
    np.testing.assert_allclose(forward(images)[0], model(images, training=False), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("smaller", "dtypes", "error"),
    [
        (in_half_size, ["float16"] * 3, 5e-3),
        # The logits' product keeps its bits.
        pytest.param(in_bfloat16, ["bfloat16", "bfloat16", "float32"], 5e-2, marks=NEEDS_ONEDNN),
    ],
)
def test_weights_in_fewer_bits(smaller, dtypes, error):
    inputs = keras.Input((24, 32, 3))
    x = keras.layers.Conv2D(96, 7, activation="relu")(inputs)
    x = keras.layers.Conv2D(64, 3, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(200)(keras.layers.GlobalAveragePooling2D()(x)))
    network = fold(freeze(model))
    images = np.random.default_rng(2).uniform(0, 255, (3, 24, 32, 3)).astype(np.float32)
    exact = model(images, training=False).numpy()
    changed = smaller(network)
    found = {value.shape: str(value.dtype) for value in changed.weights.values()}
    assert [found[shape] for shape in ((7, 7, 3, 96), (3, 3, 96, 64), (64, 200))] == dtypes
    forward, _ = as_function(changed)
    difference = np.abs(forward(images)[0].numpy() - exact).max()
    assert 1e-6 < difference < error * np.abs(exact).max()


def test_weights_beyond_float16_keep_their_bits():
    model = tiny_model()
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 1e6)
    network = fold(freeze(model))
    assert in_half_size(network).weights.keys() == network.weights.keys()
