"""Documents that others write, JSON and the text of protobuf messages: no larger and no deeper than programs write.

A parser calls itself for each level, and so does much of what works on its result.
"""

import json
import math
import os
import textwrap
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from kcnn.regular_files import read_regular

LARGEST = 64 * 2**20  # bytes of a document
DEEPEST = 100  # levels; protobuf's own limit for bytes
MOST_VALUES = 4_000_000  # of JSON: that many cost some 300 MB
LARGEST_INTEGER = 2**63 - 1  # what SQLite, protobufs and numpy hold
_MESSAGE = 200  # letters of an error, which may quote all of the document
_TOO_DEEP = f"nested more than {DEEPEST} deep"

M = TypeVar("M", bound=Message)


def read_document(path: str | os.PathLike[str]) -> str:
    """Return the text of a document's file.

    Raises:
        OSError: the file cannot be read, is no regular file, or holds more than LARGEST bytes.
        UnicodeDecodeError: it is no UTF-8.
    """
    return read_regular(path, LARGEST).decode()


def parse_json(text: str) -> Any:
    """Return the value of a JSON document; a number that is not finite, or a whole one beyond 64 bits, becomes None.

    Raises:
        ValueError: it is no JSON, deeper than DEEPEST, or has more than MOST_VALUES; the message is one line.
    """
    if sum(map(text.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES} values")
    try:
        value = json.loads(text, parse_constant=lambda name: None, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return value


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) <= len(str(-LARGEST_INTEGER)) and abs(int(text)) <= LARGEST_INTEGER else None


def parse_prototext(text: str, empty: M) -> M:
    """Return the message of a document in protobuf's text format.

    Args:
        text: the document.
        empty: a new message of the type, which is filled.

    Raises:
        ValueError: it is no such message, or deeper than DEEPEST.
    """
    try:
        text_format.Parse(text, empty)
        type(empty).FromString(empty.SerializeToString())
    except text_format.ParseError as error:
        raise ValueError(textwrap.shorten(str(error), _MESSAGE)) from None
    except (DecodeError, RecursionError):
        raise ValueError(_TOO_DEEP) from None
    return empty
