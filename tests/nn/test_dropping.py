"""DropBlock and DropConnect: what they leave out, how often, and that the rest makes up for it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kcnn
from kcnn.nn.dropping import DropBlock, DropConnect


@pytest.mark.parametrize(("height", "width", "block"), [(14, 14, 7), (12, 20, 3), (4, 4, 7), (5, 9, 7)])
def test_dropblock_drops_squares_within_the_map_as_often_as_gamma_says(height, width, block):
    tall, wide = min(block, height), min(block, width)
    rows, columns = height - tall + 1, width - wide + 1
    outputs = DropBlock(0.1, block, seed=1)(tf.ones((2000, height, width, 4)), training=True).numpy()
    dropped = outputs == 0
    # A place is dropped unless none of the squares that reach it begins.
    gamma = 0.1 / block**2 * height * width / ((height - block + 1) * (width - block + 1))  # equation 1
    if block > min(height, width):
        gamma = 0.1 / (tall * wide) * height * width / (rows * columns)
    reach = np.zeros((height, width))
    for row in range(rows):
        for column in range(columns):
            reach[row : row + tall, column : column + wide] += 1
    np.testing.assert_allclose(dropped.mean(axis=(0, 3)), 1 - (1 - gamma) ** reach, atol=0.02)
    # Whole squares: whatever is dropped is in a square that is dropped everywhere.
    whole = np.lib.stride_tricks.sliding_window_view(dropped, (tall, wide), axis=(1, 2)).all(axis=(-1, -2))
    covered = np.zeros_like(dropped)
    for row in range(tall):
        for column in range(wide):
            covered[:, row : row + rows, column : column + columns] |= whole
    np.testing.assert_array_equal(covered, dropped)
    assert outputs.mean() == pytest.approx(1.0, rel=1e-4)
    assert len(np.unique(outputs)) == 2
    assert (dropped.any(axis=(1, 2)).mean(axis=1) % 1 > 0).any()  # some channels of an image, not all of them


@pytest.mark.parametrize("layer", [DropBlock(0.5, 2), DropConnect(3, 0.5)], ids=lambda layer: type(layer).__name__)
def test_nothing_is_left_out_at_inference_and_a_copy_is_alike(layer):
    inputs = np.random.default_rng(0).normal(size=(4, 6, 6, 5)).astype(np.float32)
    inputs = inputs[:, 0, 0] if isinstance(layer, DropConnect) else inputs
    copy = type(layer).from_config(layer.get_config())
    outputs = layer(inputs, training=False)
    copy(inputs)
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(inputs, training=False), outputs)
    assert copy.get_config() == layer.get_config()
    assert np.abs(layer(inputs, training=True) - outputs).max() > 0.1
    if isinstance(layer, DropConnect):
        np.testing.assert_allclose(outputs, inputs @ layer.kernel.numpy() + layer.bias.numpy(), rtol=1e-5, atol=1e-6)


def test_dropconnect_leaves_out_weights_and_not_features():
    layer = DropConnect(2000, 0.25, kernel_initializer="ones", bias_initializer="ones", seed=3)
    outputs = layer(np.eye(8, dtype=np.float32), training=True).numpy() - 1  # the kernel that was used
    assert set(np.unique(outputs.round(5))) == {0.0, np.float32(4 / 3).round(5)}
    np.testing.assert_allclose((outputs == 0).mean(axis=1), 0.25, atol=0.04)
    with tf.GradientTape() as tape:
        used = layer(np.eye(8, dtype=np.float32), training=True)
    gradient = tape.gradient(used, layer.kernel.value)
    np.testing.assert_allclose(gradient, used.numpy() - 1, rtol=1e-5)  # a weight that is left out learns nothing


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50v2", "resnet20_cifar", "wideresnet40_4"])
def test_the_last_two_stages_drop_blocks_the_earlier_a_quarter_as_often(name):
    model = kcnn.create_model(name, 3, 32, dropblock=0.2)
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, DropBlock)}
    last = max(int(layer.name[5]) for layer in model.layers if layer.name.startswith("stage"))
    assert {name.split("_")[0] for name in rates} == {f"stage{last - 1}", f"stage{last}"}
    assert all(rate == (0.2 if name.startswith(f"stage{last}") else 0.05) for name, rate in rates.items())
    # After each convolution of a block, and on its shortcut.
    block = {name.removeprefix(f"stage{last}_block2_") for name in rates if name.startswith(f"stage{last}_block2_")}
    convolutions = {layer.name for layer in model.layers if layer.name.startswith(f"stage{last}_block2_conv")}
    expected = {name.split("_")[2] for name in convolutions} | {"shortcut"}
    assert {name.removesuffix("_dropblock") for name in block} == expected


def test_designs_reach_the_head_and_families_without_a_meaning_refuse_them():
    model = kcnn.create_model("mobilenetv2_0.35", 3, 32, dropconnect=0.3)
    assert isinstance(model.get_layer("head_logits"), DropConnect)
    assert model.get_layer("head_logits").rate == 0.3
    for name, argument in (("vgg11", "dropblock"), ("squeezenet1.1", "dropconnect"), ("mobilenetv2", "dropblock")):
        with pytest.raises(kcnn.errors.UserError, match=f"has no design argument '{argument}'"):
            kcnn.create_model(name, 3, **{argument: 0.1})
    assert type(kcnn.create_model("mobilenetv2_0.35", 3, 32).get_layer("head_logits")) is keras.layers.Dense
