"""Tensors as clients write them, JSON and TensorProto, to arrays and back.

Every mistake raises StatusError INVALID_ARGUMENT with what was found and what was expected.
Source: https://www.tensorflow.org/tfx/serving/api_rest and tensorflow_serving/util/json_tensor.cc
"""

import base64
import binascii
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from kcnn.errors import shortened
from kcnn.serving.server.runtime import BYTES_SUFFIX, ArraySpec
from kcnn.serving.server.status import invalid

# The types of JSON that each kind of numpy's dtypes takes; other kinds take whole numbers and fractions.
_TAKEN: dict[str, set[type]] = {"b": {bool}, "i": {int}, "u": {int}}
_JSON = {"b": bool, "i": int, "u": int, "f": float}  # the types of JSON, by numpy's kinds
_MOST_DIMENSIONS = 32  # numpy walks no more
_STEP = 2**15  # numbers that are read in about a millisecond
_KINDS = {bool: "true or false", int: "whole numbers", float: "fractions", str: "text", dict: "objects"}
_B64 = '{"b64": "..."}'
_SPACE_INSIDE = re.compile(r"[A-Za-z0-9+/] +[A-Za-z0-9+/]")


def json_to_array(value: Any, spec: ArraySpec, name: str) -> np.ndarray:
    """Convert nested lists of numbers, or of texts and `{"b64": ...}`, to an array of the dtype.

    Long lists of numbers are arrays already, as `parse_json` makes them.
    """
    if isinstance(value, list) and any(isinstance(one, np.ndarray) for one in value):
        if len({getattr(one, "shape", None) for one in value}) > 1:
            raise invalid(f"input {name!r}: its lists differ in length")
        value = np.stack(value)
    if isinstance(value, np.ndarray):
        return _convert(value, {_JSON[value.dtype.kind]}, spec, name)
    if spec.dtype == object:
        rank = _depth(value) if spec.shape is None else len(spec.shape)
        if rank > _MOST_DIMENSIONS:
            raise invalid(f"input {name!r}: its lists are nested too deep")
        array = np.array(_texts(value, rank, name, spec.binary), dtype=object)
        if array.ndim != rank:
            raise invalid(f"input {name!r}: its lists differ in length")
        return array
    try:
        array = np.array(value, dtype=object)  # numpy's own choice would give each text the room of the longest
    except ValueError:
        raise invalid(f"input {name!r}: its lists are nested too deep") from None
    kinds = set(map(type, array.ravel().flat))
    if list in kinds:
        raise invalid(f"input {name!r}: its lists differ in length, or are nested too deep")
    return _convert(array, kinds, spec, name)


def _convert(array: np.ndarray, kinds: set[type], spec: ArraySpec, name: str) -> np.ndarray:
    """Convert an array of numbers of JSON, of these types of Python, to the dtype."""
    if spec.dtype == object:
        raise invalid(f"input {name!r}: expected {'' if spec.binary else 'texts or '}{_B64}, found numbers")
    wrong = kinds - _TAKEN.get(spec.dtype.kind, {int, float})
    if wrong:
        found = " and ".join(sorted(_KINDS.get(kind, "something else") for kind in wrong))
        raise invalid(f"input {name!r}: expected numbers of type {spec.dtype}, found {found}")
    if spec.dtype.kind in "iu" and array.size:
        bounds, lowest, highest = np.iinfo(spec.dtype), array.min(), array.max()
        if lowest < bounds.min or highest > bounds.max:
            extreme = lowest if lowest < bounds.min else highest
            raise invalid(f"input {name!r}: {extreme} is no {spec.dtype}: {bounds.min} to {bounds.max}")
    with np.errstate(over="ignore"):  # becomes infinite, which is refused with the others
        return array.astype(spec.dtype)


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list):
        value, depth = value[0] if value else None, depth + 1
    return depth


def _texts(value: Any, rank: int, name: str, binary: bool) -> Any:
    """Return the same lists, of bytes; where they are `binary`, text is a mistake, mostly base64 without its object."""
    where = f"input {name!r}"
    if rank:
        if not isinstance(value, list):
            raise invalid(f"{where}: expected a list, found {describe_json(value)}")
        return [_texts(part, rank - 1, name, binary) for part in value]
    if isinstance(value, str) and not binary:
        return value.encode()
    if isinstance(value, dict) and value.keys() == {"b64"}:
        return decode_base64(value["b64"], where)
    raise invalid(f"{where}: expected {_B64 if binary else f'a text or {_B64}'}, found {describe_json(value)}")


def decode_base64(text: Any, where: str) -> bytes:
    """Return the bytes of the value of "b64".

    As TensorFlow Serving does, this takes the standard alphabet alone, and forgives line breaks and missing padding.
    """
    if not isinstance(text, str):
        raise invalid(f'{where}: expected a text as the value of "b64", found {describe_json(text)}')
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        if text.lstrip()[:5].lower() == "data:":
            raise invalid(f'{where}: a data: URI in "b64": expected what follows its comma alone') from None
        if "-" in text or "_" in text:
            raise invalid(f"{where}: no base64, or URL-safe: expected + and / where that has - and _") from None
        if _SPACE_INSIDE.search(text):  # TensorFlow Serving drops it, and with it what the client wrote
            raise invalid(f"{where}: no base64: a space, where a form may have lost a +") from None
        text = "".join(text.split()).rstrip("=")
        try:
            return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
        except ValueError as error:
            raise invalid(f"{where}: no base64: {error}") from None


def is_list(value: Any) -> bool:
    """Return whether a value was a list in JSON."""
    return isinstance(value, list | np.ndarray)


def describe_json(value: Any) -> str:
    """Return the kind of a JSON value, in words."""
    if isinstance(value, dict):
        return "an object of " + (", ".join(map(shortened, itertools.islice(value, 5))) or "nothing")
    if is_list(value) and not len(value):
        return "an empty list"
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        np.ndarray: "a list",
    }
    return names.get(type(value), "null")


def array_to_json(name: str, array: np.ndarray) -> Any:
    """Convert an array to what orjson writes as TensorFlow Serving does.

    Bytes are text; those of an output `..._bytes` are `{"b64": ...}`.
    """
    if array.dtype != object:
        return np.ascontiguousarray(array) if array.ndim else array.item()
    if name.endswith(BYTES_SUFFIX):
        return _each(array.tolist(), lambda value: {"b64": base64.b64encode(value).decode()})
    return _each(array.tolist(), lambda value: value.decode("utf-8", "replace"))


def _each(value: Any, change: Any) -> Any:
    return [_each(part, change) for part in value] if isinstance(value, list) else change(value)


def proto_to_array(proto: tensor_pb2.TensorProto, name: str, most_bytes: int) -> np.ndarray:
    """Convert a proto to an array of at most so many bytes: a small proto can stand for any number of them."""
    try:
        dtype = tf.dtypes.as_dtype(proto.dtype)
    except TypeError:
        raise invalid(f"input {name!r}: {proto.dtype} is no data type") from None
    if not dtype.is_numpy_compatible:  # handles of resources and variants
        raise invalid(f"input {name!r}: expected numbers or strings, found {dtype.name}")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape) or len(shape) > _MOST_DIMENSIONS:
        raise invalid(f"input {name!r}: expected a shape of known sizes")
    size, texts = math.prod(shape), proto.string_val
    try:
        item = max(dtype.size, len(texts[0])) if len(texts) == 1 else dtype.size
        if size * item > most_bytes:
            raise invalid(f"input {name!r}: {size * item} bytes for shape {shape}: expected at most {most_bytes}")
        if dtype == tf.string:
            if len(texts) not in (1, size):  # one is for all
                raise invalid(f"input {name!r}: {len(texts)} values for shape {shape}")
            array = np.empty(size, dtype=object)
            array[:] = texts
            return array.reshape(shape)
        if proto.tensor_content and len(proto.tensor_content) != size * item:
            raise invalid(f"input {name!r}: {len(proto.tensor_content)} bytes for shape {shape}")
        if dtype in _FIELDS and len(getattr(proto, _FIELDS[dtype])) > _STEP:
            return _many_numbers(getattr(proto, _FIELDS[dtype]), dtype.as_numpy_dtype, size).reshape(shape)
        return np.asarray(tf.make_ndarray(proto))
    except (TypeError, ValueError, OverflowError):
        raise invalid(f"input {name!r}: its values do not fit {dtype.name} of shape {shape}") from None


def _many_numbers(values: Sequence[Any], dtype: np.dtype, size: int) -> np.ndarray:
    """Return the numbers of a field; the last stands for all that follow. Each step holds Python's lock."""
    if len(values) > size:
        raise ValueError
    parts = [np.array(values[start : start + _STEP], dtype) for start in range(0, len(values), _STEP)]
    return np.pad(np.concatenate(parts), (0, size - len(values)), "edge")


def array_to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Convert an array to a proto, its values in the field of their type, as clients of TensorFlow Serving expect."""
    dtype = tf.dtypes.as_dtype(tf.string if array.dtype == object else array.dtype)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    field = _FIELDS.get(dtype)
    if field is None:
        proto.tensor_content = array.tobytes()
    else:
        getattr(proto, field).extend(array.ravel().tolist())
    return proto


_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.string: "string_val",
    tf.int64: "int64_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
}
