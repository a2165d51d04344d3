"""A tiny classifier with a layer of its own, and pictures for it."""

import io

import keras
import numpy as np
from PIL import Image

from kcnn.data.input_pipeline.transform import Preprocessing

LABELS = ["cat", "dog", "naïve café", "日本語", "$e$", "a b", "last"]
SPEC = Preprocessing(image_size=(24, 32))


class Shift(keras.layers.Layer):
    """Registered nowhere: an export that remembers it cannot be loaded."""

    def build(self, input_shape):
        self.amount = self.add_weight(shape=(input_shape[-1],), initializer="random_normal")

    def call(self, inputs):
        return inputs + self.amount


def tiny_model(classes=7, dtype=None):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((24, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, dtype=dtype)(x)
    x = keras.layers.BatchNormalization(dtype=dtype)(x)
    x = keras.layers.ReLU(dtype=dtype)(x)
    x = keras.layers.DepthwiseConv2D(3, dtype=dtype)(x)
    x = Shift()(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Flatten()(x)
    # Large weights, so that the answers for two pictures differ by more than rounding.
    head = keras.layers.Dense(classes, kernel_initializer=keras.initializers.RandomNormal(stddev=0.2), dtype="float32")
    outputs = head(x)
    return randomize(keras.Model(inputs, outputs))


def randomize(model):
    """Give the model batch norm statistics and scales that no new network has."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "moving_mean":
            weight.assign(random.uniform(-0.2, 0.2, weight.shape))
        if weight.name in ("moving_variance", "gamma"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


def picture(format, size, seed=0):
    """Return an encoded image of coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(file, format)
    return file.getvalue()
