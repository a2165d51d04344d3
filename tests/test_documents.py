"""JSON and the text of protobuf messages, as deep and as large as nobody writes them."""

import json

import pytest
from tensorflow_metadata.proto.v0 import schema_pb2
from tensorflow_serving.config import model_server_config_pb2

from kcnn import documents
from kcnn.documents import DEEPEST, parse_json, parse_prototext, read_document

OPEN, CLOSE = 'feature { name: "a" struct_domain { ', "} } "


@pytest.mark.parametrize("text", ["{}", '{"a": [1, "]]]]", "\\"[[", {"b": null}]}', '"' + "[" * 999 + '"', "1.5"])
def test_json(text):
    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * depth + "]" * depth for depth in (DEEPEST + 1, 2000, 200_000)),
        '{"a":' * 200_000,
        '[{"a":' * 2000 + "1" + "}]" * 2000,
        '["\\\\", ' * 200,
        *("", "{", "[1,]", '"abc'),
    ],
    ids=len,
)
def test_what_is_no_json_or_too_deep(text):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    assert len(str(caught.value)) < 300


def test_json_as_deep_as_may_be():
    parse_json("[" * DEEPEST + "]" * DEEPEST)
    parse_json("[" + ",".join(["[[]]"] * 1000) + "]")


@pytest.mark.parametrize("depth", [DEEPEST, 300, 2000, 100_000])
def test_a_message_that_is_too_deep(depth):
    with pytest.raises(ValueError, match=r"nested more than 100 deep|no field"):
        parse_prototext(OPEN * depth + CLOSE * depth, schema_pb2.Schema())


def test_messages():
    assert parse_prototext(OPEN * 20 + CLOSE * 20, schema_pb2.Schema()).feature[0].name == "a"
    text = "model_config_list { " * 2000 + "}" * 2000
    with pytest.raises(ValueError, match=r".") as caught:
        parse_prototext(text, model_server_config_pb2.ModelServerConfig())
    assert len(str(caught.value)) < 300  # it quotes the line


def test_files(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("é")
    assert read_document(tmp_path / "a") == "é"
    monkeypatch.setattr(documents, "LARGEST", 1)
    with pytest.raises(OSError, match="more than"):
        read_document(tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NaN", None),
        ("1e999", None),
        ("-Infinity", None),
        ("9" * 5000, None),
        (str(2**63), None),
        (str(1 - 2**63), 1 - 2**63),
    ],
)
def test_numbers_that_nothing_else_holds_are_none(text, value):
    assert parse_json(f"[{text}]") == [value]


def test_values_are_counted_before_they_are_made(monkeypatch):
    monkeypatch.setattr(documents, "MOST_VALUES", 10)
    assert parse_json("[1,2,3]") == [1, 2, 3]
    with pytest.raises(ValueError, match="expected at most 10 values"):
        parse_json("[" * 11)
