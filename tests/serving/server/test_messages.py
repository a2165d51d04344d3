"""The fields of messages, counted before they are built."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from requests_and_answers import example
from serving_process import predict_request
from tensorflow_serving.apis import classification_pb2, predict_pb2

from kcnn.serving.server.messages import MOST_FIELDS, count_fields, parse_message
from kcnn.serving.server.status import StatusError

KINDS = (predict_pb2.PredictRequest, classification_pb2.ClassificationRequest)


def field(number, content):
    """Return a delimited field of a message."""
    size, rest = b"", len(content)
    while rest > 127:
        size, rest = size + bytes([rest & 127 | 128]), rest >> 7
    return bytes([8 * number + 2]) + size + bytes([rest]) + content


def test_requests_as_clients_send_them_have_few_fields():
    images = predict_request(image_bytes=[bytes(100_000)] * 256)
    pixels = predict_request(images=np.zeros((4, 224, 224, 3), np.uint8))
    numbers = predict_request(images=np.zeros((2, 224, 224, 3), np.float32))
    numbers.inputs["images"].float_val.extend(np.zeros(10**6))
    for request in (images, pixels, numbers):
        assert parse_message(predict_pb2.PredictRequest, request.SerializeToString()) == request
        assert count_fields(request.SerializeToString(), request.DESCRIPTOR) < MOST_FIELDS / 4
    classify = classification_pb2.ClassificationRequest()
    for _ in range(256):
        one = tf.train.Example.FromString(example(bytes(1000)))
        for number in range(60):
            one.features.feature[str(number)].float_list.value.append(number)
        classify.input.example_list.examples.append(one)
    assert parse_message(classification_pb2.ClassificationRequest, classify.SerializeToString()) == classify


@pytest.mark.parametrize(
    "content",
    [
        field(2, field(1, b"\x0a\x00" * 2**20)),  # empty examples
        field(2, field(1, field(1, field(1, b"\x0a\x00" * 2**20)))),  # empty features
        field(2, b"\x0a\x00" * 2**20),  # inputs
        b"\x1a\x00" * 2**20,  # filters
        b"\x12\x00" * 2**20,
        b"\x98\x01\x00" * 2**20,  # unknown
        b"\x9b\x01\x9c\x01" * 2**20,  # groups
        field(2, field(1, b"x") + field(2, field(7, b"\x01" * 2**25) + field(10, b"\x01" * 2**25))),  # packed numbers
    ],
)
def test_messages_of_very_many_fields_are_refused(content):
    refused = 0
    for kind in KINDS:
        try:
            parse_message(kind, content)
        except StatusError as error:
            assert "fields in a request" in error.message  # noqa: PT017
            refused += 1
        except DecodeError:
            pass
    assert refused


def test_a_message_in_itself_is_no_recursion():
    content = b""
    for _ in range(3000):  # a variant of tensors of variants
        content = field(15, field(3, content))
    content = field(2, field(1, b"x") + field(2, content))
    with pytest.raises(DecodeError):
        parse_message(predict_pb2.PredictRequest, content)


def test_broken_messages_are_left_to_the_parser():
    whole = predict_request(image_bytes=[b"abc"]).SerializeToString()
    for end in range(len(whole)):
        assert count_fields(whole[:end], predict_pb2.PredictRequest.DESCRIPTOR) < 20
    for content in (b"\xff", b"\x0f", b"\x80" * 30, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"):
        with pytest.raises(DecodeError):
            parse_message(predict_pb2.PredictRequest, content)
