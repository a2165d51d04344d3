"""The bodies of REST requests: from bytes to JSON, and from JSON to the inputs of a signature.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

import codecs
import zlib
from http import HTTPStatus
from typing import Any

import numpy as np
import tensorflow as tf
from grpc import StatusCode

from kcnn.errors import shortened
from kcnn.serving.server.batching import Arrays
from kcnn.serving.server.json_pieces import PIECE, JsonError, parse_json
from kcnn.serving.server.requests import Requests
from kcnn.serving.server.runtime import Signature
from kcnn.serving.server.status import StatusError, invalid
from kcnn.serving.server.tensors import decode_base64, describe_json, is_list, json_to_array

_BYTES_FEATURE = "/encoded"  # as image/encoded: the files of tf.Examples, by custom
_EXPECTED = 'an object in UTF-8, as {"instances": [...]}'
# What clients send instead of JSON, by its first bytes.
_NO_JSON = {
    b"\x1f\x8b": "gzip without the header Content-Encoding: gzip",
    b"\xff\xd8\xff": 'a JPEG, which JSON holds as {"b64": "..."}',
    b"\x89PNG": 'a PNG, which JSON holds as {"b64": "..."}',
    b"--": "a form",
    codecs.BOM_UTF16_LE: "UTF-16 or UTF-32",
    codecs.BOM_UTF16_BE: "UTF-16",
    b"{\0": "UTF-16 or UTF-32",
    b"\0": "UTF-16 or UTF-32",
}


def inflate(body: bytes | bytearray, most: int) -> bytes:
    """Return the content of a gzip stream.

    Raises:
        StatusError: INVALID_ARGUMENT: it is none, or its content has more than `most` bytes.
    """
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # of gzip
    try:
        content = inflater.decompress(body, most + 1)
    except zlib.error as error:
        raise invalid(f"Content-Encoding gzip: {error}") from None
    if len(content) > most:
        raise too_large("too many inflated", most)
    if not inflater.eof or inflater.unused_data:
        raise invalid("Content-Encoding gzip: expected one whole stream")
    return content


def too_large(found: str, most: int) -> StatusError:
    """Return the error of a request with too many bytes."""
    message = f"{found} bytes in a request: expected at most {most}"
    return StatusError(StatusCode.INVALID_ARGUMENT, message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def parse_body(body: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object of a body.

    Raises:
        StatusError: INVALID_ARGUMENT: it is none.
    """
    try:
        parsed = parse_json(body)
    except JsonError as error:
        found = next((kind for first, kind in _NO_JSON.items() if body.startswith(first)), "")
        raise invalid(f"JSON Parse error: {error}; expected {_EXPECTED}{found and f', found {found}'}") from None
    if not isinstance(parsed, dict):
        raise invalid(f"JSON Value: is not object; expected {_EXPECTED}")
    return parsed


def read_inputs(requests: Requests, signature: Signature, parsed: dict[str, Any]) -> Arrays:
    """Return the inputs, which come in rows ("instances") or in columns ("inputs").

    Raises:
        StatusError: INVALID_ARGUMENT: they do not fit the signature.
    """
    rows: Any = parsed.get("instances")
    columns: Any = parsed.get("inputs")
    if ("instances" in parsed) == ("inputs" in parsed):
        found = ", ".join(repr(key[:40]) for key in list(parsed)[:5]) or "none"
        raise invalid(f"expecting one of 'inputs' or 'instances' keys to exist: one of the two, found {found}")
    if "instances" in parsed:
        if not is_list(rows) or not len(rows):
            raise invalid(f"Expecting 'instances' to be a list with one value or more, found {describe_json(rows)}")
        requests.check_rows(signature, len(rows))
        named = _is_named(rows[0])
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            if _is_named(row) != named or (named and row.keys() != signature.inputs.keys()):
                keys, found = ", ".join(signature.inputs), describe_json(row)
                raise invalid(
                    f"Failed to process element: {index} of 'instances' list: expected keys {keys}, found {found}"
                )
        columns = {name: [row[name] for row in rows] for name in signature.inputs} if named else rows
    elif columns is None:
        raise invalid("Expecting 'inputs' to be a value, a list or an object")
    if not _is_named(columns):
        if len(signature.inputs) != 1:
            raise invalid(f"expecting an object of the inputs {', '.join(signature.inputs) or '(none)'}")
        columns = dict.fromkeys(signature.inputs, columns)
    specs = signature.inputs
    unknown = next((name for name in columns if name not in specs), None)
    if unknown is not None:
        raise invalid(f"JSON object: does not have named input: {shortened(unknown)}; expected {', '.join(specs)}")
    for value in columns.values():
        requests.check_rows(signature, len(value) if is_list(value) else 0)
    return {name: json_to_array(value, specs[name], name) for name, value in columns.items()}


def _is_named(value: Any) -> bool:
    """Return whether a value is an object of named inputs, not an object that stands for bytes."""
    return isinstance(value, dict) and value.keys() != {"b64"}


def serialize_example(given: Any, which: str) -> bytes:
    """Return a JSON object as a serialized tf.Example.

    Args:
        given: name of a feature → its value or values.
        which: the words for the example in errors.

    Raises:
        StatusError: INVALID_ARGUMENT: it is no such object.
    """
    if not isinstance(given, dict):
        raise invalid(f"Example must be JSON object; {which} is none")
    if given.keys() == {"b64"}:
        raise invalid(f'{which}: expected features, as {{"image/encoded": {{"b64": "..."}}}}, found an object of b64')
    example = tf.train.Example()
    for name, values in given.items():
        feature = example.features.feature[name]
        where = f"Feature: {shortened(name)} of {which}"
        if isinstance(values, np.ndarray):
            _add_numbers(feature, values, where)
            continue
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str) and name.endswith(_BYTES_FEATURE):
                raise invalid(f'{where}: expected bytes, {{"b64": "..."}}, found text')
            kind, content = _feature_value(value, where)
            if feature.WhichOneof("kind") not in (None, kind):
                raise invalid(f"{where}: values of different types")
            try:
                getattr(feature, kind).value.append(content)
            except (ValueError, TypeError):
                raise invalid(f"{where}: {str(value)[:40]} does not fit int64") from None
    return example.SerializeToString()


def _add_numbers(feature: tf.train.Feature, numbers: np.ndarray, where: str) -> None:
    """Add an array of a long list of JSON to a feature. Each step holds Python's lock."""
    if numbers.ndim != 1:
        raise invalid(f"{where} has element with unexpected JSON type")
    added = feature.float_list.value if numbers.dtype.kind == "f" else feature.int64_list.value
    try:
        for start in range(0, len(numbers), PIECE):
            added.extend(numbers[start : start + PIECE].tolist())
    except ValueError:
        raise invalid(f"{where}: a number does not fit int64") from None


def _feature_value(value: Any, where: str) -> tuple[str, Any]:
    """Return the field of tf.train.Feature for a value of JSON, and its content."""
    if isinstance(value, str):
        return "bytes_list", value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return "bytes_list", decode_base64(value["b64"], where)
    if isinstance(value, int):
        return "int64_list", value
    if isinstance(value, float):
        return "float_list", value
    raise invalid(f"{where} has element with unexpected JSON type")
