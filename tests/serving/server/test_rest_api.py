"""The REST API, compared with its documentation and with the SavedModel itself.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import json

import numpy as np
import pytest
import tensorflow as tf
from serving_process import OTHER, TINY, b64, texts
from tiny_classifier import LABELS


def test_status(client):
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    both = {"model_version_status": [{"version": "2", **available}, {"version": "1", **available}]}
    first = {"model_version_status": [{"version": "1", **available}]}
    assert client.ask("/v1/models/tiny") == (200, both)
    assert client.ask("/v1/models/tiny/versions/1") == (200, first)
    assert client.ask("/v1/models/tiny/labels/stable") == (200, first)


def test_metadata(client, export_dir):
    status, answer = client.ask("/v1/models/tiny/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "tiny", "signature_name": "", "version": "2"}
    found = answer["metadata"]["signature_def"]["signature_def"]
    served = tf.saved_model.load(str(export_dir)).signatures
    assert set(served) <= set(found)
    (entry,) = found["serving_default"]["inputs"].items()
    assert entry[0] == "image_bytes"
    assert entry[1]["dtype"] == "DT_STRING"
    assert entry[1]["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


@pytest.mark.parametrize("path", [TINY, "/v1/models/tiny/versions/1:predict", "/v1/models/tiny/labels/stable:predict"])
def test_rows(client, pictures, expected, path):
    for instances in ([b64(image) for image in pictures], [{"image_bytes": b64(image)} for image in pictures]):
        status, answer = client.ask(path, {"signature_name": "serving_default", "instances": instances})
        assert status == 200
        rows = answer["predictions"]
        np.testing.assert_allclose([row["probabilities"] for row in rows], expected["probabilities"], atol=1e-5)
        assert [row["top_classes"] for row in rows] == texts(expected["top_classes"])


def test_columns(client, pictures, expected):
    for inputs in ([b64(image) for image in pictures], {"image_bytes": [b64(image) for image in pictures]}):
        status, answer = client.ask(TINY, {"inputs": inputs})
        assert status == 200
        np.testing.assert_allclose(answer["outputs"]["probabilities"], expected["probabilities"], atol=1e-5)
        assert answer["outputs"]["top_classes"] == texts(expected["top_classes"])
    status, answer = client.ask(TINY, {"inputs": {"image_bytes": []}})
    assert (status, answer["outputs"]["probabilities"]) == (200, [])


def test_pixels(client, export_dir):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), dtype=np.uint8)
    wanted = tf.saved_model.load(str(export_dir)).signatures["images"](images=tf.constant(pixels))
    status, answer = client.ask(TINY, {"signature_name": "images", "instances": pixels.tolist()})
    assert status == 200
    probabilities = [row["probabilities"] for row in answer["predictions"]]
    np.testing.assert_allclose(probabilities, wanted["probabilities"], atol=1e-5)


def test_two_inputs_no_rows_and_bytes(client):
    rows = [{"x": 1, "y": 2.5}, {"x": 0.1, "y": -0.3}]
    sums = [{"sum": 3.5, "difference": -1.5}, {"sum": pytest.approx(-0.2), "difference": pytest.approx(0.4)}]
    assert client.ask(OTHER, {"instances": rows}) == (200, {"predictions": sums})
    assert client.ask(OTHER, {"inputs": {"x": [1], "y": [2]}}) == (200, {"outputs": {"sum": [3], "difference": [-1]}})
    status, answer = client.ask(OTHER, {"signature_name": "total", "inputs": [1, 2, 3]})
    assert (status, answer) == (200, {"outputs": 6.0})
    assert client.ask(OTHER, {"signature_name": "total", "instances": [1, 2, 3]})[0] == 400
    status, answer = client.ask(OTHER, {"signature_name": "texts", "instances": ["naïve", b64(b"\xff\0")]})
    assert answer == {
        "predictions": [{"length": 6, "text_bytes": b64("naïve".encode())}, {"length": 2, "text_bytes": b64(b"\xff\0")}]
    }
    assert b64(b"\xff\0") == {"b64": "/wA="}
    for written in ("/wA", " /w\nA="):  # TensorFlow Serving forgives both
        assert client.ask(OTHER, {"signature_name": "texts", "instances": [{"b64": written}]})[0] == 200


def test_classify(client):
    path = "/v1/models/other:classify"
    examples = [{"a": 0.25, "b": [0.75]}, {"a": 1.0, "b": 0.0}]
    results = [[["a", 0.25], ["b", 0.75]], [["a", 1.0], ["b", 0.0]]]
    body = {"signature_name": "classify", "examples": examples}
    assert client.ask(path, body) == (200, {"results": results})
    body = {"signature_name": "classify", "context": {"b": 0.5}, "examples": [{"a": 0.25}]}
    assert client.ask(path, body) == (200, {"results": [[["a", 0.25], ["b", 0.5]]]})
    body["context"]["a"] = 0.75  # what an example has itself counts
    assert client.ask(path, body) == (200, {"results": [[["a", 0.25], ["b", 0.5]]]})
    body["context"] = {"b": "x" * 10_000}
    status, answer = client.ask(path, {**body, "examples": [{}] * 250})
    assert (status, answer["error"].split(":")[0]) == (400, "a context of 10018 bytes for 250 examples")
    status, answer = client.ask(path, {**body, "examples": [{}] * 300})
    assert (status, answer) == (400, {"error": "300 rows in a request: expected at most 256"})
    status, answer = client.ask(path, {"examples": examples})
    assert status == 400
    assert "method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict" in answer["error"]
    assert "classify" in answer["error"].split(";")[1]
    status, answer = client.ask("/v1/models/other:regress", {"examples": examples})
    assert status == 400
    assert "classifiers" in answer["error"]


def test_a_row_that_is_no_image_is_told_apart(client, stub, pictures, expected):
    rows = [b64(pictures[0]), b64(b"junk"), b64(b""), b64(pictures[1][:50]), b64(pictures[1])]
    status, answer = client.ask(TINY, {"instances": rows})
    assert status == 200
    found = answer["predictions"]
    assert [bool(row["status"]) for row in found] == [False, True, True, True, False]
    for row, wanted in ((0, 0), (4, 1)):
        np.testing.assert_allclose(found[row]["probabilities"], expected["probabilities"][wanted], atol=1e-5)
    assert set(found[1]["probabilities"]) == {0}
    status, answer = client.ask("/v1/models/tiny:classify", {
        "signature_name": "classify",
        "examples": [{"image/encoded": b64(pictures[0]), "image/format": "jpeg", "more": [1, 2]}],
    })  # fmt: skip
    assert status == 200
    ((*classes,),) = answer["results"]
    assert sorted(name for name, _ in classes) == sorted(LABELS)
    best = max(classes, key=lambda pair: pair[1])
    assert best == [
        expected["top_classes"][0, 0].decode(),
        pytest.approx(expected["top_probabilities"][0, 0], abs=1e-5),
    ]


def test_what_the_model_says_of_itself(client):
    status, answer = client.ask(TINY, {"signature_name": "metadata", "inputs": {}})
    assert status == 200
    assert json.loads(answer["outputs"])["labels"] == LABELS
