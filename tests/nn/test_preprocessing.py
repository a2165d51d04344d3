"""Preprocessing of pixels: the layers, and how torch's projects would write the same."""

import numpy as np
import pytest

import kcnn
from kcnn.nn.preprocessing import MODES, describe_normalization


@pytest.mark.parametrize("mode", MODES)
def test_mean_and_deviation_normalise_as_the_layers_do(mode):
    pixels = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    model = kcnn.create_model("lenet5", 2, 32, preprocessing=mode)
    x = pixels
    for layer in model.layers:
        if layer.name.startswith("preprocess"):
            x = layer(x)
    mean, deviation = map(np.array, describe_normalization(mode))
    expected = (pixels / 255 - mean) / deviation
    np.testing.assert_allclose(
        np.asarray(x), expected[..., ::-1] if mode == "caffe" else expected, rtol=1e-4, atol=1e-3
    )


def test_torch_is_torchvisions():
    mean, deviation = describe_normalization("torch")
    assert mean == pytest.approx([0.485, 0.456, 0.406])
    assert deviation == pytest.approx([0.229, 0.224, 0.225])
