"""Networks of grouped convolutions run on every CPU, whatever TensorFlow computes convolutions with."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny_classifier import LABELS, randomize

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.nn.convolutions import GroupedConv
from kcnn.serving.export.classifier import export_classifier
from kcnn.serving.export.folding import add_grouped_biases, fold
from kcnn.serving.export.network import freeze

PURPOSES = ("latency", "size", "none")
SPEC = Preprocessing((24, 32), crop_fraction=1.0)
# Asks as a program with TensorFlow 2 does, and as TensorFlow Serving's session does.
PROGRAM = """
import json, sys
import numpy as np
import tensorflow as tf
pixels = np.load(sys.argv[1])
answers = []
for path in sys.argv[2:]:
    loaded = tf.saved_model.load(path)
    answers.append(loaded.signatures["images"](images=tf.constant(pixels))["logits"].numpy().tolist())
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["images"]
        logits, images = signature.outputs["logits"].name, signature.inputs["images"].name
        answers.append(session.run(logits, {images: pixels}).tolist())
print(json.dumps(answers))
"""


def grouped_model():
    """Return a model with a grouped convolution before a batch norm (ResNeXt) and one with its own bias (AlexNet)."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((24, 32, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2)(x)
    x = GroupedConv(8, 3, groups=2, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    x = keras.layers.ReLU()(GroupedConv(16, 3, groups=4, bias_initializer="random_normal")(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return randomize(keras.Model(inputs, keras.layers.Dense(len(LABELS))(x)))


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """Export the model for each purpose; give the folder and the model's logits for the pixels in it."""
    model, folder = grouped_model(), tmp_path_factory.mktemp("grouped")
    for purpose in PURPOSES:
        export_classifier(model, folder / purpose, LABELS, SPEC, optimize_for=purpose)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), np.uint8)
    np.save(folder / "pixels.npy", pixels)
    return folder, np.asarray(model(pixels.astype("f"), training=False))


@pytest.mark.slow
@pytest.mark.parametrize("onednn", ["0", "1"])
def test_grouped_convolutions_are_served_with_and_without_onednn(grouped, onednn):
    folder, expected = grouped
    command = [sys.executable, "-c", PROGRAM, str(folder / "pixels.npy"), *(str(folder / name) for name in PURPOSES)]
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = json.loads(done.stdout)
    assert len(answers) == 2 * len(PURPOSES)
    for answer in answers:
        np.testing.assert_allclose(answer, expected, rtol=1e-3, atol=1e-3)


def test_only_the_biases_of_grouped_convolutions_are_added():
    network = add_grouped_biases(fold(freeze(grouped_model())))
    nodes = {node.name: node for node in network.graph.node}
    assert "EnsureShape" not in {node.op for node in nodes.values()}
    biased = [(node.op, nodes[node.input[0]].op) for node in nodes.values() if node.op in ("BiasAdd", "AddV2")]
    assert sorted(biased) == [("AddV2", "Conv2D"), ("AddV2", "Conv2D"), ("BiasAdd", "Conv2D")]
