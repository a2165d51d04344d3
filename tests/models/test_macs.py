"""Multiply-adds by hand."""

import keras
import pytest

from kcnn.models.macs import macs

L = keras.layers


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (L.Conv2D(8, 3, padding="same"), 10 * 12 * 3 * 3 * 4 * 8),
        (L.Conv2D(8, (1, 7), strides=2, padding="same", groups=2), 5 * 6 * 7 * 2 * 8),
        (L.Conv2D(8, 3), 8 * 10 * 9 * 4 * 8),
        (L.DepthwiseConv2D(5, padding="same"), 10 * 12 * 25 * 4),
        (L.SeparableConv2D(8, 3, padding="same"), 10 * 12 * (9 * 4 + 4 * 8)),
        (L.Dense(8), 10 * 12 * 4 * 8),
        (keras.Sequential([L.Flatten(), L.Dense(8)]).layers[0], 0),
        (L.BatchNormalization(), 0),
        (L.MaxPooling2D(2), 0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_by_hand(layer, expected):
    inputs = keras.Input((10, 12, 4))
    assert macs(keras.Model(inputs, layer(inputs))) == expected


def test_at_another_size():
    inputs = keras.Input((10, 12, 3))
    x = L.Conv2D(8, 3, strides=2, padding="same")(inputs)
    model = keras.Model(inputs, L.Dense(5)(L.GlobalAveragePooling2D()(x)))
    assert macs(model, 32) == 16 * 16 * 27 * 8 + 8 * 5
    assert macs(model, (32, 64)) == 16 * 32 * 27 * 8 + 8 * 5
    assert macs(model) == 5 * 6 * 27 * 8 + 8 * 5


def test_an_unknown_kind_is_not_passed_over():
    inputs = keras.Input((10, 12, 3))
    with pytest.raises(ValueError, match="Conv2DTranspose"):
        macs(keras.Model(inputs, L.Conv2DTranspose(8, 3)(inputs)))
