"""The server, asked over HTTP and with TensorFlow Serving's own gRPC stubs.

It is compared with the documented API and with the SavedModel itself.

https://www.tensorflow.org/tfx/serving/api_rest
"""

import gzip
import json
import re
import socket
import struct
import time
import zlib

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_process import Client, b64, other_model, publish, run_serve, serve, texts
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tiny_classifier import LABELS

from kcnn.serving.server.runtime import ArraySpec
from kcnn.serving.server.status import StatusError
from kcnn.serving.server.tensors import json_to_array
from pipelines import command_line

TINY, OTHER = "/v1/models/tiny:predict", "/v1/models/other:predict"
CONFIG = """
model_config_list {{
  config {{
    name: "tiny" base_path: "{folder}/tiny" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }}
  }}
  config {{ name: "other" base_path: "{folder}/other" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="module")
def server(export_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for number in (1, 2):
        (folder / "tiny").mkdir(exist_ok=True)
        publish(export_dir, folder / "tiny", number)
    other_model(folder / "other" / "7")
    config = folder / "models.config"
    config.write_text(CONFIG.format(folder=folder))
    with serve(folder, f"--model_config_file={config}", "--max_request_bytes=2000000") as running:
        yield running
        assert "Traceback" not in running.output()


@pytest.fixture
def client(server):
    return Client(server)


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def expected(export_dir, pictures):
    answers = tf.saved_model.load(str(export_dir)).signatures["serving_default"](image_bytes=tf.constant(pictures))
    return {name: value.numpy() for name, value in answers.items()}


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


def png_header(width, height, data=b""):
    """Return a PNG that states this size."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PIXELS = {"signature_name": "images"}
WRONG = {
    "empty": (b"", "JSON Parse error"),
    "cut": (b'{"instances": [', "JSON Parse error"),
    "no object": ([1], "is not object"),
    "deep": (b'{"instances": ' + b"[" * 100_000, "JSON Parse error"),
    "no keys": ({}, "'inputs' or 'instances'"),
    "both keys": ({"instances": [1], "inputs": [1]}, "'inputs' or 'instances'"),
    "no instances": ({"instances": []}, "one value or more"),
    "no list": ({"instances": 3}, "one value or more"),
    "null": ({"inputs": None}, "'inputs'"),
    "number for text": ({"instances": [7]}, "found a number"),
    "no base64": ({"instances": [{"b64": "%%%"}]}, "no base64"),
    "cut base64": ({"instances": [{"b64": "A"}]}, "no base64"),
    "b64 of a number": ({"instances": [{"b64": 7}]}, "expected a text"),
    "other key": ({"instances": [{"image": "x"}]}, "image_bytes"),
    "mixed rows": ({"instances": [{"image_bytes": "x"}, "x"]}, "element: 1"),
    "nested text": ({"instances": [["x"]]}, "found a list"),
    "unknown input": ({"inputs": {"image_bytes": ["x"], "more": [1]}}, "more"),
    "missing input": ({"inputs": {}}, "Missing named input: image_bytes"),
    "signature": ({"signature_name": "serving", "instances": ["x"]}, "did you mean 'serving_default'"),
    "signature of a number": ({"signature_name": 7, "instances": ["x"]}, "signature_name"),
    "rank": ({**PIXELS, "instances": [[[1, 2, 3]]]}, r"uint8 [?, ?, ?, 3], found uint8 [1, 1, 3]"),
    "channels": ({**PIXELS, "instances": [[[[1, 2]]]]}, "found uint8 [1, 1, 1, 2]"),
    "ragged": ({**PIXELS, "instances": [[[[1, 2, 3]], [[1, 2]]]]}, "differ in length"),
    "range": ({**PIXELS, "instances": [[[[1, 2, 256]]]]}, "256 is no uint8"),
    "fraction": ({**PIXELS, "instances": [[[[1, 2, 0.5]]]]}, "found fractions"),
    "truth": ({**PIXELS, "instances": [[[[True, False, True]]]]}, "found true or false"),
    "huge number": ({**PIXELS, "instances": [[[[1, 2, 10**30]]]]}, "uint8"),
    "a word": ({**PIXELS, "instances": [[[[1, 2, "c"]]]]}, "found text"),
    "nothing": ({**PIXELS, "instances": [[[[1, 2, None]]]]}, "found something else"),
    "deep pixels": ({**PIXELS, "instances": [json.loads("[" * 70 + "]" * 70)]}, "nested too deep"),
    "rather deep pixels": ({**PIXELS, "instances": [json.loads("[" * 40 + "1" + "]" * 40)]}, "found uint8 [1, 1"),
    "words": ({**PIXELS, "instances": [[[["a", "b", "c"]]]]}, "found text"),
    "no pixels": ({**PIXELS, "inputs": [[], []]}, "found uint8 [2, 0]"),
    "empty rows": ({**PIXELS, "inputs": [[[]]]}, "found uint8"),
    "NaN": (b'{"signature_name": "images", "instances": [[[[NaN, 1, 2]]]]}', "JSON Parse error"),
    "100 megapixels": ({"instances": [b64(png_header(10_000, 10_000))]}, "100000000 pixels"),
    "bomb": ({"instances": [b64(png_header(60_000, 60_000, zlib.compress(bytes(10**7))))]}, "3600000000 pixels"),
    "rows": ({"instances": [""] * 300}, "300 rows in a request: expected at most 256"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said(client, case):
    body, said = WRONG[case]
    status, answer = client.ask(TINY, body)
    assert status == 400
    assert answer.keys() == {"error"}
    assert said in answer["error"]
    assert "\n" not in answer["error"]


def test_texts_do_not_get_the_room_of_the_longest():
    with pytest.raises(StatusError, match="found text"):
        json_to_array(["x" * 10**6] + [""] * 10**5, ArraySpec(np.dtype(np.uint8), (None,)), "images")


def test_texts_of_any_rank():
    anything = ArraySpec(np.dtype(object), None)
    assert json_to_array("a", anything, "x").tolist() == b"a"
    assert json_to_array([["a"], ["b"]], anything, "x").shape == (2, 1)
    assert json_to_array([], anything, "x").shape == (0,)
    with pytest.raises(StatusError, match="nested too deep"):
        json_to_array(json.loads("[" * 900 + "]" * 900), anything, "x")


def test_not_finite(client):
    for body in (b'{"inputs": {"x": [1e39], "y": [0]}}', b'{"inputs": {"x": [1e400], "y": [0]}}'):
        assert client.ask(OTHER, body)[0] == 400
    status, answer = client.ask(OTHER, {"inputs": {"x": [3e38], "y": [3e38]}})
    assert (status, "not finite" in answer["error"]) == (400, True)


def test_what_is_not_there_is_said(client):
    body = {"instances": ["x"]}
    for path, code, said in [
        ("/v1/models/nope:predict", 404, "Servable not found for request: Latest(nope); models: tiny, other"),
        ("/v1/models/tiny/versions/9:predict", 404, "Specific(tiny, 9); available: version 1, 2"),
        ("/v1/models/tiny/versions/99999999999999999999:predict", 400, "Failed to convert version"),
        ("/v1/models/tiny/labels/canary:predict", 400, "Unrecognized servable version label: canary"),
        ("/v1/models/tiny:explain", 400, "Malformed request: POST /v1/models/tiny:explain"),
        ("/v1/models/..%2f..%2fetc%2fpasswd:predict", 400, "Malformed request"),
        ("/v1/models/../../etc/passwd:predict", 400, "Malformed request"),
        ("/v1/models/%2e%2e:predict", 404, "Latest(..)"),
        ("/elsewhere", 404, "/v1/models/NAME"),
    ]:
        status, answer = client.ask(path, body)
        assert (status, answer.keys()) == (code, {"error"}), path
        assert said in answer["error"]
    for path, code in [
        ("/v1/models/nope", 404),
        ("/v1/models/tiny/versions/9", 404),
        ("/v1/models/tiny/versions/9/metadata", 404),
        ("/v1/models/tiny:predict", 400),
        ("/v1/models/", 400),
        ("/v1/models/t%09iny", 404),
    ]:
        status, answer = client.ask(path)
        assert (status, answer.keys()) == (code, {"error"}), path
    assert client.ask("/v1/models/tiny", method="DELETE")[0] == 405


def test_too_large(client):
    status, answer = client.ask(TINY, b" " * 9_000_000)
    assert (status, answer) == (413, {"error": "9000000 bytes in a request: expected at most 2000000"})
    assert client.ask("/healthz")[0] == 200  # on the same connection


def test_content_encoding(client):
    whole = gzip.compress(json.dumps({"inputs": {"x": [1], "y": [2]}}).encode())

    def ask(body, encoding):
        client.connection.request("POST", OTHER, body, {"Content-Encoding": encoding})
        response = client.connection.getresponse()
        return response.status, json.loads(response.read())

    assert ask(whole, "gzip") == (200, {"outputs": {"sum": [3], "difference": [-1]}})
    assert ask(gzip.compress(bytes(10**7)), "gzip")[0] == 413
    for body in (b"{}", whole[:-1], whole + whole):
        status, answer = ask(body, "gzip")
        assert (status, answer["error"].split(":")[0]) == (400, "Content-Encoding gzip")
    assert ask(whole, "br") == (415, {"error": "Content-Encoding br: expected gzip or none"})


def test_health_and_metrics(client, channel, pictures):
    assert client.ask("/healthz") == (200, {"status": "alive"})
    assert client.ask("/readyz") == (200, {"ready": True, "models": ["tiny", "other"]})
    client.ask(TINY, {"instances": [b64(pictures[0])]})
    client.ask(TINY, {})
    client.ask("/v1/models/made/up:predict", {})
    client.ask("/v1/models/madeup:predict", {})
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        status, text = client.ask(path)
        assert status == 200
        assert 'kcnn_requests_total{code="OK",method="predict",model="tiny",protocol="rest"}' in text
        assert 'kcnn_requests_total{code="INVALID_ARGUMENT",method="predict",model="tiny",protocol="rest"}' in text
        assert 'kcnn_model_version{model="tiny",version="2"} 1.0' in text
        assert 'kcnn_batch_rows_bucket{le="1.0",model="tiny"}' in text
        assert "kcnn_queue_rows 0.0" in text
        assert "madeup" not in text
    check = health_pb2_grpc.HealthStub(channel).Check
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def request(name="tiny", signature="", **inputs):
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        made.inputs[key].CopyFrom(value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value))
    return made


def test_grpc_predict(stub, pictures, expected):
    made = request(image_bytes=pictures)
    answer = stub.Predict(made, timeout=30)
    assert answer.model_spec.version.value == 2
    assert answer.model_spec.signature_name == "serving_default"
    assert set(answer.outputs) == set(expected)
    for name, array in expected.items():
        found = tf.make_ndarray(answer.outputs[name])
        if found.dtype == object:
            np.testing.assert_array_equal(found, array)
        else:
            np.testing.assert_allclose(found, array, atol=1e-4)
    # Clients of TensorFlow Serving look here.
    assert len(answer.outputs["probabilities"].float_val) == len(pictures) * len(LABELS)
    made.output_filter.append("top_classes")
    made.model_spec.version.value = 1
    answer = stub.Predict(made, timeout=30)
    assert (set(answer.outputs), answer.model_spec.version.value) == ({"top_classes"}, 1)
    made.model_spec.version_label = "stable"
    assert stub.Predict(made, timeout=30).model_spec.version.value == 1
    pixels = request(signature="images", images=np.zeros((2, 5, 6, 3), np.uint8))
    assert tf.make_ndarray(stub.Predict(pixels, timeout=30).outputs["probabilities"]).shape == (2, len(LABELS))
    same = request("other", "texts", text=tf.make_tensor_proto(b"ab", shape=[3]))  # one value stands for all
    assert tf.make_ndarray(stub.Predict(same, timeout=30).outputs["length"]).tolist() == [2, 2, 2]


def test_grpc_classify(stub):
    asked = classification_pb2.ClassificationRequest()
    asked.model_spec.name, asked.model_spec.signature_name = "other", "classify"
    example = tf.train.Example()
    example.features.feature["a"].float_list.value.append(0.25)
    context = tf.train.Example()
    context.features.feature["b"].float_list.value.append(0.75)
    asked.input.example_list_with_context.examples.append(example)
    asked.input.example_list_with_context.context.CopyFrom(context)
    (found,) = stub.Classify(asked, timeout=30).result.classifications
    assert [(one.label, one.score) for one in found.classes] == [("a", 0.25), ("b", 0.75)]
    example.MergeFrom(context)
    asked.input.example_list.examples.extend([example, example])
    assert len(stub.Classify(asked, timeout=30).result.classifications) == 2


def test_grpc_metadata_and_status(stub, channel):
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "tiny"
    answer = stub.GetModelMetadata(asked, timeout=30)
    defs = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(defs)
    assert defs.signature_def["images"].inputs["images"].dtype == tf.uint8.as_datatype_enum
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "tiny"
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    states = models.GetModelStatus(status, timeout=30).model_version_status
    available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert [(one.version, one.state) for one in states] == [(2, available), (1, available)]


def test_what_is_wrong_is_said_by_grpc(stub, channel):
    def refused(call, asked, code, said):
        with pytest.raises(grpc.RpcError) as error:
            call(asked, timeout=30)
        assert error.value.code() is code
        assert said in error.value.details()

    bad, missing, no = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED
    refused(stub.Predict, request("nope", image_bytes=[b""]), missing, "Latest(nope)")
    refused(stub.Predict, request(""), bad, "model_spec.name")
    refused(stub.Predict, request(), bad, "Missing named input: image_bytes")
    refused(stub.Predict, request(image_bytes=[1]), bad, "expected string [?], found int32 [1]")
    refused(stub.Predict, request(image_bytes=[[b""]]), bad, "found string [1, 1]")
    refused(stub.Predict, request(signature="images", images=np.zeros((1, 0, 2, 3), np.uint8)), bad, "each row")
    refused(stub.Predict, request("other", x=[np.nan], y=[0.0]), bad, "NaN")
    refused(stub.Predict, request("other", x=[1.0, 2.0], y=[0.0]), bad, "different numbers of rows")
    refused(stub.Predict, request(image_bytes=[png_header(10_000, 10_000)]), bad, "100000000 pixels")
    full = grpc.StatusCode.RESOURCE_EXHAUSTED
    refused(stub.Predict, request(image_bytes=[bytes(2_000_001)]), full, "larger than max")
    huge = tf.make_tensor_proto(np.zeros((1, 1, 1, 3), np.uint8))
    huge.tensor_shape.dim[0].size = 2**40  # a few bytes for terabytes
    refused(stub.Predict, request(signature="images", images=huge), bad, "bytes for shape")
    huge.tensor_shape.dim[0].size = -1
    refused(stub.Predict, request(signature="images", images=huge), bad, "known sizes")
    empty = tensor_pb2.TensorProto(dtype=tf.string.as_datatype_enum)
    for size in (0, 2**40, 2**40):
        empty.tensor_shape.dim.add(size=size)
    refused(stub.Predict, request(image_bytes=empty), bad, "do not fit string")
    refused(stub.Predict, request(image_bytes=tf.make_tensor_proto(bytes(10_000), shape=[250])), bad, "bytes for shape")
    common = classification_pb2.ClassificationRequest()
    common.model_spec.name, common.model_spec.signature_name = "other", "classify"
    examples = common.input.example_list_with_context
    examples.context.features.feature["b"].bytes_list.value.append(bytes(10_000))
    examples.examples.extend([tf.train.Example()] * 250)
    refused(stub.Classify, common, bad, "a context of 10018 bytes for 250 examples")
    examples.examples.extend([tf.train.Example()] * 50)
    refused(stub.Classify, common, bad, "300 rows")
    filtered = request(image_bytes=[b""])
    filtered.output_filter.append("nope")
    refused(stub.Predict, filtered, bad, "choose from")
    refused(stub.Regress, regression_pb2.RegressionRequest(), bad, "classifiers")
    refused(stub.MultiInference, inference_pb2.MultiInferenceRequest(), no, "MultiInference")
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    reload = model_management_pb2.ReloadConfigRequest()
    refused(models.HandleReloadConfigRequest, reload, no, "watched")
    refused(models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest(), bad, "model_spec.name")
    refused(channel.unary_unary("/tensorflow.serving.PredictionService/Predict"), b"\xff", bad, "pars")


def test_deadlines(server, stub, client):
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(request("other", "slow", data=[b""], rounds=np.int32([200_000])), timeout=0.2)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert client.ask("/healthz")[0] == 200


def test_what_went_wrong_is_counted(server, stub, client, channel):
    """Count also the requests of the other tests in this file."""
    client.ask(TINY, b" " * 2_000_001)
    with socket.create_connection(("127.0.0.1", server.rest)) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{" % TINY.encode())
    calls = [
        (stub.Predict, request("other", "slow", data=[b""], rounds=np.int32([200_000])), 0.2),
        (stub.Predict, request(image_bytes=[bytes(2_000_001)]), 30),
        (channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus"), b"\xff", 30),
        (stub.Regress, regression_pb2.RegressionRequest(), 30),
        (stub.MultiInference, inference_pb2.MultiInferenceRequest(), 30),
    ]
    for call, asked, seconds in calls:
        with pytest.raises(grpc.RpcError):
            call(asked, timeout=seconds)
    wanted = {
        'code="INVALID_ARGUMENT",method="predict",model="tiny",protocol="rest"',
        'code="CANCELLED",method="predict",model="tiny",protocol="rest"',
        'code="CANCELLED",method="predict",model="other",protocol="grpc"',
        'code="CANCELLED",method="predict",model="",protocol="grpc"',
        'code="INVALID_ARGUMENT",method="status",model="",protocol="grpc"',
        'code="INVALID_ARGUMENT",method="regress",model="",protocol="grpc"',
        'code="UNIMPLEMENTED",method="multiinference",model="",protocol="grpc"',
    }
    deadline = time.monotonic() + 10
    while wanted - (found := set(re.findall(r"kcnn_requests_total{(.*)}", client.ask("/metrics")[1]))):
        assert time.monotonic() < deadline, wanted - found
        time.sleep(0.05)
    assert "UNKNOWN" not in " ".join(found)


def test_what_is_wrong_with_the_flags_is_said(tmp_path, export_dir, server, capfd):
    broken = tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"\x00")
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { nam: 'x' } }")
    absent = tmp_path / "absent.config"
    policy = "model_version_policy { specific { versions: 9 } }"
    absent.write_text(f"model_config_list {{ config {{ name: 'tiny' base_path: '{export_dir.parent}' {policy} }} }}")
    mistakes = [
        ([], "expected a model's name"),
        ([".tiny"], "model name '.tiny'"),
        (["../nope"], "no numbered versions there"),
        (["nope"], "no numbered versions there"),
        (["tiny", f"--model_base_path={export_dir}"], "is one version"),
        (["tiny", f"--model_base_path={export_dir.parent}", "--max_batch_size=0"], "--max_batch_size 0"),
        ([f"--model_config_file={config}"], "no ModelServerConfig"),
        (["tiny", f"--model_base_path={export_dir.parent}", f"--rest_api_port={server.rest}"], "in use"),
    ]
    broken_models = [
        (["broken", f"--model_base_path={broken.parent}", "--port=0", "--rest_api_port=0"], "cannot be loaded"),
        (
            [f"--model_config_file={absent}", "--port=0", "--rest_api_port=0"],
            "Could not find any versions of model tiny",
        ),
    ]

    def expect(status, written, said):
        assert status == 2, written
        (line,) = [line for line in written.splitlines() if line.startswith("main.py: error: ")]
        assert said in line
        assert "Traceback" not in written

    for arguments, said in mistakes:
        status = command_line.run(["main.py", "serve", *arguments])
        expect(status, capfd.readouterr().err, said)
    for arguments, said in broken_models:
        done = run_serve(*arguments)
        expect(done.returncode, done.stderr, said)
