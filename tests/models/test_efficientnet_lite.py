"""EfficientNet-Lite's published multiply-adds, which count more than convolutions and dense layers."""

import math

import pytest

import kcnn
from kcnn.nn.normalization import BatchNorm

# README of tensorflow/tpu, models/official/efficientnet/lite: millions.
PUBLISHED = {"lite0": 407, "lite1": 631, "lite2": 899, "lite3": 1440, "lite4": 2640}


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] * (name != "lite0")) for name in PUBLISHED]
)
def test_multiply_adds_are_googles_with_three_for_each_normalised_value(variant):
    model = kcnn.create_model(f"efficientnet{variant}")
    normalised = sum(math.prod(layer.output.shape[1:]) for layer in model.layers if isinstance(layer, BatchNorm))
    assert (kcnn.macs(model) + 3 * normalised) / 1e6 == pytest.approx(PUBLISHED[variant], rel=0.005)
