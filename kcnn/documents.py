"""Documents that others write, JSON and the text of protobuf messages: no larger and no deeper than programs write.

A parser calls itself for each level, and so does much of what works on its result.
"""

import json
import os
import re
import textwrap
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import DecodeError, Message

from kcnn.regular_files import read_regular

LARGEST = 64 * 2**20  # bytes of a document
DEEPEST = 100  # levels; protobuf's own limit for bytes
_MESSAGE = 200  # letters of an error, which may quote all of the document
_TOO_DEEP = f"nested more than {DEEPEST} deep"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)

M = TypeVar("M", bound=Message)


def read_document(path: str | os.PathLike[str]) -> str:
    """Return the text of a document's file.

    Raises:
        OSError: the file cannot be read, is no regular file, or holds more than LARGEST bytes.
        UnicodeDecodeError: it is no UTF-8.
    """
    return read_regular(path, LARGEST).decode()


def parse_json(text: str) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: it is no JSON, or deeper than DEEPEST.
    """
    level = 0
    for sign in re.findall(r"[][{}]", _STRING.sub("", text)):
        level += 1 if sign in "[{" else -1
        if level > DEEPEST:
            raise ValueError(_TOO_DEEP)
    return json.loads(text)


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
