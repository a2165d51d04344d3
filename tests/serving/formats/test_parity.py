"""Parity: every format of a version is asked on the test images, each by its own runtime."""

import json
import shutil
import sys

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from small_export import LABELS, SIZE, SPEC, pictures

import kcnn
from kcnn.data.examples import Example, parse_example, read_examples
from kcnn.errors import UserError
from kcnn.serving.formats.catalogue import FORMATS
from kcnn.serving.formats.parity import measure_parity
from tests import shards


def held_out(version, directory, count=100):
    """Write test shards whose labels are the answers of the version's SavedModel; return both, in order."""
    served = tf.saved_model.load(str(version)).signatures["serving_default"]
    files = pictures(count, seed=7)
    top = served(image_bytes=tf.constant(files))["probabilities"].numpy().argmax(1)
    rows = [
        Example(file, f"{index}.png", int(label), LABELS[label], "PNG", 30, 40, "0")
        for index, (file, label) in enumerate(zip(files, top, strict=True))
    ]
    paths = shards.write(directory, "test", rows, count=2)
    encoded = [parse_example(record)["encoded"].numpy() for record in read_examples(paths)]
    return paths, served(image_bytes=tf.constant(encoded))["probabilities"].numpy()


@pytest.mark.slow
def test_parity_of_all_formats(exported, tmp_path):
    paths, probabilities = held_out(exported[0], tmp_path)
    facts, checks = measure_parity(exported[0], paths, probabilities, limit=90)
    assert [check.name for check in checks] == [f"format, {name}" for name in FORMATS]
    assert {check.name: check.said for check in checks if not check.passed} == {}
    assert (facts["files"], facts["accuracy"]) == (90, 1.0)
    for name, measured in facts["formats"].items():
        exact = name in ("savedmodel", "onnx", "openvino", "tfjs")
        assert measured["largest_probability_difference"] < (1e-4 if exact else 0.5), name
        assert measured["largest_probability_difference"] > 0 or exact, name
        assert measured["agreement"] == measured["accuracy"] >= (1.0 if exact else 0.9), name
        assert measured["milliseconds"] > 0
    folder = exported[0] / "assets.extra" / "onnx"
    assert facts["formats"]["onnx"]["bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    assert facts["formats"]["savedmodel"]["bytes"] < sum(
        file.stat().st_size for file in exported[0].rglob("*") if file.is_file()
    )
    assert json.loads(json.dumps(facts)) == facts


@pytest.fixture(scope="module")
def wild(tmp_path_factory):
    """Export a version whose network int8 cannot hold, with damaged files; give its shards and probabilities."""
    keras.utils.set_random_seed(5)
    layers = keras.layers
    inputs = keras.Input((*SIZE, 3))
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="before")(layers.Rescaling(1 / 127.5, -1)(inputs))
    x = layers.Conv2D(16, 3, strides=2, activation="relu", name="after")(x)
    x = layers.Dense(5, kernel_initializer=keras.initializers.RandomNormal(stddev=2.0))(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    # The same function in float32, whatever the factors; but in int8 a layer's activations share one scale.
    factors = np.where(np.arange(16) == 0, 1e5, 1.0)
    kernel, bias = model.get_layer("before").get_weights()
    model.get_layer("before").set_weights([kernel * factors, bias * factors])
    kernel, bias = model.get_layer("after").get_weights()
    model.get_layer("after").set_weights([kernel / factors[:, None], bias])
    folder = tmp_path_factory.mktemp("wild")
    version = folder / "1"
    formats = ["onnx", "openvino", "tflite-float16", "tflite-int8"]
    kcnn.export_classifier(model, version, LABELS, SPEC, formats=formats, calibration=pictures(40, seed=1))
    network = onnx.load(FORMATS["onnx"].file(version))
    largest = max(network.graph.initializer, key=lambda weights: len(weights.raw_data))
    values = onnx.numpy_helper.to_array(largest)
    largest.CopyFrom(onnx.numpy_helper.from_array(np.roll(values, 1, axis=-1).copy(), largest.name))
    onnx.save(network, FORMATS["onnx"].file(version))
    FORMATS["openvino"].file(version).with_suffix(".bin").write_bytes(b"")
    return version, *held_out(version, folder)


@pytest.mark.slow
def test_parity_refuses_what_int8_makes_worse_and_what_is_damaged(wild):
    facts, checks = measure_parity(*wild)
    said = {check.name.removeprefix("format, "): (check.passed, check.said) for check in checks}
    assert {name: passed for name, (passed, _) in said.items()} == {
        "savedmodel": True,
        "onnx": False,
        "openvino": False,
        "tflite-float16": True,
        "tflite-int8": False,
    }
    assert "a loss of at most 1.0% passes" in said["tflite-int8"][1]
    assert facts["formats"]["tflite-int8"]["accuracy"] < 0.9
    assert "at most 0.001 of a probability passes" in said["onnx"][1]
    assert said["openvino"][1].startswith("openvino cannot be asked: ")
    assert "openvino" not in facts["formats"]


@pytest.fixture(scope="module")
def plain(network, tmp_path_factory):
    """Export a version with one other format; give it with its shards and probabilities."""
    folder = tmp_path_factory.mktemp("plain")
    kcnn.export_classifier(network, folder / "1", LABELS, SPEC, formats=["onnx"])
    return folder / "1", *held_out(folder / "1", folder)


def test_parity_without_a_runtime_is_refused_in_one_line(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"^format 'onnx': running it needs onnxruntime: pip install '\.\[formats\]'$"):
        measure_parity(*plain)


def test_parity_says_where_a_process_ended(plain, tmp_path):
    version, paths, probabilities = plain
    shutil.copytree(version, tmp_path / "1")
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"damaged")
    facts, (check,) = measure_parity(tmp_path / "1", paths, probabilities)
    assert (check.name, check.passed, facts) == ("formats", False, {"files": 0})
    assert "at savedmodel the process ended (exit 1)" in check.said
    assert "\n" not in check.said
