"""Preprocessing that was fitted to images is in every format, and each answers as the network does."""

import io
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_export import TEMPERATURE, expected

import kcnn
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.nn.preprocessing import FITTED, normalize_pixels
from kcnn.serving.export.folding import fold
from kcnn.serving.export.network import freeze
from kcnn.serving.formats.catalogue import FORMATS
from kcnn.training.pixel_statistics import fit_preprocessing

OTHERS = [name for name in FORMATS if name != "savedmodel"]
CHOICES = {**dict.fromkeys(FITTED, 3), "none": 1}
# Of an output, over the largest number in it. Whitening sums many products of pixels, which cancel each other: weights
# in 8 bits are felt there more than elsewhere.
TOLERANCES = {"tflite-float16": 0.02, "tflite-dynamic": 0.25, "tflite-int8": 0.25}
SPEC = Preprocessing((12, 12), crop_fraction=1.0)
STRANGER = """
import sys
import numpy as np
import tensorflow as tf
images = np.load(sys.argv[1])
for version in sys.argv[2:]:
    served = tf.saved_model.load(version).signatures["images"]
    np.save(version + ".npy", served(images=tf.constant(images))["logits"].numpy())
assert "kcnn" not in sys.modules
"""


def photos(count, seed):
    """Return images whose neighbours are alike, uint8 [N, 12, 12, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), np.uint8)
    resized = [np.asarray(Image.fromarray(each).resize((12, 12), Image.Resampling.BICUBIC)) for each in coarse]
    noise = np.random.default_rng(seed + 1).normal(0, 4, (count, 12, 12, 3))
    return (np.stack(resized) + noise).clip(0, 255).astype(np.uint8)


def network(mode, channels):
    """Build a network that was fitted to 200 images."""
    keras.utils.set_random_seed(2)
    inputs = keras.Input((12, 12, 3))
    x = normalize_pixels(inputs, mode, channels)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="stem_conv")(x)
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="stage1_conv")(x)
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="head_logits")(x))
    fit_preprocessing(model, tf.data.Dataset.from_tensor_slices(photos(200, 0)).map(_float).batch(50), 200)
    return model


def _float(images):
    return tf.cast(images, tf.float32)


def encoded(images):
    files = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "PNG")
        files.append(file.getvalue())
    return files


@pytest.mark.parametrize("choices", [{"zca": 1}, pytest.param(CHOICES, marks=pytest.mark.slow)])
def test_tensorflow_alone_answers_as_the_network(choices, tmp_path):
    np.save(tmp_path / "images.npy", photos(6, 5))
    models = {mode: network(mode, channels) for mode, channels in choices.items()}
    for mode, model in models.items():
        kcnn.export_classifier(model, tmp_path / mode, list("abc"), SPEC)
    command = [sys.executable, "-I", "-c", STRANGER, tmp_path / "images.npy", *(tmp_path / mode for mode in models)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for mode, model in models.items():
        wanted = model(photos(6, 5).astype(np.float32)).numpy()
        assert wanted.std(axis=0).max() > 0.01 * np.abs(wanted).max(), mode
        found = np.load(tmp_path / f"{mode}.npy")
        np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max(), err_msg=mode)


def test_a_deviation_goes_into_the_weights_beside_it():
    operations = [node.op for node in fold(freeze(network("standardize", 3))).graph.node]
    assert "Mul" not in operations
    assert operations.count("Sub") == 1  # the mean: margins of zeros have none


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "channels"), [*CHOICES.items(), ("zca", 1), ("standardize", 1)])
def test_every_format_answers_as_the_network(mode, channels, tmp_path):
    model, images = network(mode, channels), photos(8, 5)
    kcnn.export_classifier(
        model,
        tmp_path / "1",
        list("abc"),
        SPEC,
        formats=OTHERS,
        temperature=TEMPERATURE,
        calibration=encoded(photos(60, 9)),
    )
    wanted = expected(model, images)
    for name in OTHERS:
        got = FORMATS[name].family().load(FORMATS[name].file(tmp_path / "1"))(images.astype(np.float32))
        for output in ("logits", "embedding"):
            tolerance = TOLERANCES.get(name, 1e-4) * np.abs(wanted[output]).max()
            np.testing.assert_allclose(got[output], wanted[output], atol=tolerance, err_msg=f"{name} {output}")
