"""Preprocessing of pixels: the layers, and how torch's projects would write the same."""

import keras
import numpy as np
import pytest
from PIL import Image

import kcnn
from kcnn.errors import UserError
from kcnn.nn.pixel_layers import Luminance
from kcnn.nn.preprocessing import FITTED, MODES, describe_normalization, normalize_pixels


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


def test_grey_images_are_one_channel_of_the_values_that_they_have():
    grey = np.arange(256, dtype=np.float32).reshape(1, 16, 16, 1).repeat(3, axis=-1)
    np.testing.assert_allclose(Luminance()(grey), grey[..., :1], rtol=1e-6)
    colours = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    pillows = np.asarray(Image.fromarray(colours).convert("L"), np.float32)
    np.testing.assert_allclose(Luminance()(colours[None].astype(np.float32))[0, ..., 0], pillows, atol=0.51)


@pytest.mark.parametrize("mode", MODES)
def test_one_channel_is_what_the_modes_three_make_together(mode):
    """Take a grey image: luminance of the normalised channels is the normalised luminance, as both are linear."""
    grey = np.random.default_rng(0).uniform(0, 255, (2, 6, 6, 1)).astype(np.float32).repeat(3, axis=-1)
    inputs = keras.Input((6, 6, 3))
    one, three = (keras.Model(inputs, normalize_pixels(inputs, mode, channels))(grey) for channels in (1, 3))
    if mode == "caffe":
        three = three[..., ::-1]
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(one[..., 0], np.asarray(three) @ weights, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "layer", "params"),
    [("lenet5", "stage1_conv", 156), ("lenet_caffe", None, 431_080)],  # C1 in the paper's section II.B; Caffe's network
)
def test_networks_of_one_channel_are_the_papers(name, layer, params):
    model = kcnn.create_model(name, 10, channels=1)
    assert model.input_shape[-1] == 3
    assert (model.get_layer(layer) if layer else model).count_params() == params


def test_whitening_has_a_largest_size():
    for side, channels in ((36, 3), (64, 1)):
        inputs = keras.Input((side, side, 3))
        assert normalize_pixels(inputs, "mean_image", channels).shape == (None, side, side, channels)
        for mode in ("pca", "zca"):
            with pytest.raises(UserError, match=f"image_size of {side} or less") as error:
                normalize_pixels(keras.Input((side + 1, side + 1, 3)), mode, channels)
            assert str(error.value).startswith(f"preprocessing {mode!r} at {side + 1}x{side + 1}: ")
    with pytest.raises(UserError, match=r"'zca' at 224x224: .* 150528 .* 4096 at most: expected an image_size of 36"):
        kcnn.create_model("mobilenetv2", 10, preprocessing="zca")


def test_what_is_chosen_is_part_of_the_design():
    model = kcnn.create_model("resnet20_cifar", 10, preprocessing="zca", channels=1)
    assert (model.design["preprocessing"], model.design["channels"]) == ("zca", 1)
    names = [layer.name for layer in model.layers[1:4]]
    assert names == ["preprocess_luminance", "preprocess_mean_image", "preprocess_zca"]
    assert kcnn.macs(model) == kcnn.macs(kcnn.create_model("resnet20_cifar", 10, channels=1)) + 1024**2
    with pytest.raises(UserError, match="channels 2: expected 1, for grey images, or 3"):
        kcnn.create_model("lenet5", channels=2)


@pytest.mark.parametrize("mode", FITTED)
def test_a_keras_file_holds_it(mode, tmp_path):
    inputs = keras.Input((4, 5, 3))
    model = keras.Model(inputs, normalize_pixels(inputs, mode, 1))
    random = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(random.uniform(1, 2, variable.shape))
    model.save(tmp_path / "m.keras")
    images = random.uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(images), model(images))
