"""A small network, pictures for it, and what Keras answers: for the tests of formats."""

import io

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tiny_classifier import randomize

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.models.taps import penultimate

LABELS = ["cat", "dog", "naïve café", "日本語", '"<&>']
SIZE = (24, 32)
SPEC = Preprocessing(SIZE, crop_fraction=1.0)
TEMPERATURE = 1.5


def small_network():
    """Build a network with each kind of block of MobileNetV3 and ConvNeXt, once each."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    inputs = keras.Input((*SIZE, 3))
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    x = layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.Activation("hard_swish")(layers.BatchNormalization()(x))
    shortcut = x
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    squeezed = layers.Conv2D(4, 1, activation="relu")(squeezed)
    x = layers.Multiply()([x, layers.Conv2D(16, 1, activation="hard_sigmoid")(squeezed)])
    x = layers.Add()([shortcut, layers.Conv2D(16, 1, activation="gelu")(x)])
    x = layers.Flatten()(layers.MaxPooling2D(3)(x))
    x = layers.Dense(12, activation="silu")(x)
    return randomize(
        keras.Model(inputs, layers.Dense(5, kernel_initializer=keras.initializers.RandomNormal(stddev=2.0))(x))
    )


def pictures(count, seed):
    """Return files of coloured blocks in 3 formats, and of several sizes."""
    random = np.random.default_rng(seed)
    made = []
    for index in range(count):
        blocks = random.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        file = io.BytesIO()
        image = Image.fromarray(blocks).resize((40 + index % 3, 30), Image.Resampling.BICUBIC)
        image.save(file, ("PNG", "JPEG", "BMP")[index % 3])
        made.append(file.getvalue())
    return made


def expected(network, images):
    """Return the answers of Keras."""
    both = keras.Model(network.inputs, [network.outputs[0], penultimate(network).outputs[0]])
    logits, embedding = (part.numpy() for part in both([images.astype(np.float32)], training=False))
    probabilities = tf.nn.softmax(logits / TEMPERATURE).numpy()
    return {"probabilities": probabilities, "logits": logits, "embedding": embedding}
