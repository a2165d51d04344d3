"""JSON and protos to arrays."""

import json

import numpy as np
import pytest
import tensorflow as tf
from grpc import StatusCode
from tensorflow.core.framework import tensor_pb2, types_pb2

from kcnn.serving.server.runtime import ArraySpec
from kcnn.serving.server.status import StatusError
from kcnn.serving.server.tensors import json_to_array, proto_to_array


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


@pytest.mark.parametrize("number", types_pb2.DataType.values())
def test_protos_of_every_type_are_read_or_refused(number):
    """Expect that whatever fields the proto has."""
    full = {"float_val": [1, 2], "int_val": [1, 2], "half_val": [1, 2], "string_val": [b"a", b"b"], "bool_val": [True]}
    for fields in ({}, full, {"tensor_content": bytes(16)}, {"tensor_content": bytes(2)}):
        proto = tensor_pb2.TensorProto(dtype=number, **fields)
        proto.resource_handle_val.add()
        proto.variant_val.add()
        proto.tensor_shape.dim.add(size=2)
        try:
            shape = proto_to_array(proto, "x", 1000).shape
        except StatusError as error:
            refused = error.code
        else:
            refused = None
            assert shape == (2,)
        assert refused in (None, StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("count", [5, 100_000, 100_007])
def test_protos_of_many_numbers_are_read_as_tensorflow_reads_them(count):
    for dtype, field in ((tf.float32, "float_val"), (tf.uint8, "int_val"), (tf.int64, "int64_val")):
        proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
        getattr(proto, field).extend(number % 200 for number in range(count))
        proto.tensor_shape.dim.add(size=count)
        np.testing.assert_array_equal(proto_to_array(proto, "x", 10**7), tf.make_ndarray(proto))
        proto.tensor_shape.dim[0].size = count + 11  # the last number stands for those
        np.testing.assert_array_equal(proto_to_array(proto, "x", 10**7), tf.make_ndarray(proto))
        proto.tensor_shape.dim[0].size = count - 1
        with pytest.raises(StatusError, match="do not fit"):
            proto_to_array(proto, "x", 10**7)
    proto.int64_val[-1] = 300
    proto.dtype = tf.uint8.as_datatype_enum
    proto.int_val.extend(proto.int64_val)
    with pytest.raises(StatusError, match="do not fit"):
        proto_to_array(proto, "x", 10**7)
