"""The gRPC services, asked with TensorFlow Serving's own stubs, and compared with the SavedModel itself."""

import base64

import grpc
import numpy as np
import pytest
import tensorflow as tf
from requests_and_answers import png_header
from serving_process import predict_request as request
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    regression_pb2,
)
from tiny_classifier import LABELS, picture


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
    refused(stub.Predict, request("a\0b"), missing, "Latest(a")
    refused(stub.Predict, request(signature="a\0b", image_bytes=[b""]), bad, "a")
    refused(stub.Predict, request(""), bad, "model_spec.name")
    refused(stub.Predict, request(), bad, "Missing named input: image_bytes")
    refused(stub.Predict, request(image_bytes=[1]), bad, "expected string [?], found int32 [1]")
    refused(stub.Predict, request(image_bytes=[[b""]]), bad, "found string [1, 1]")
    refused(stub.Predict, request(signature="images", images=np.zeros((1, 0, 2, 3), np.uint8)), bad, "each row")
    refused(stub.Predict, request("other", x=[np.nan], y=[0.0]), bad, "NaN")
    refused(stub.Predict, request("other", x=[1.0, 2.0], y=[0.0]), bad, "different numbers of rows")
    refused(stub.Predict, request(image_bytes=[png_header(10_000, 10_001)]), bad, "100010000 pixels")
    refused(stub.Predict, request(image_bytes=[base64.b64encode(picture("PNG", (9, 9)))]), bad, "an image in base64")
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
