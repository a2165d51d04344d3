"""What it takes to decode the image in a text of a request, which may be an image, or a tf.Example with one."""

import binascii
import itertools
import re
from collections.abc import Iterator

from kcnn.data.input_pipeline.headers import READERS, DecodingCost, decoding_cost
from kcnn.serving.server.messages import MOST_FIELDS, SIZES, read_varint
from kcnn.serving.server.status import invalid

_FIELDS_OF_AN_IMAGE = 2**12  # of a file that begins as an image: a black BMP has as many fields as it has pixels
_LOOKED_AT = 2**16  # characters that are decoded to see whether a text is base64

_EXAMPLE_TEXTS = (1, 1, 2, 1, 1)  # features, an entry of their map, its value, bytes_list, value


def field_budget() -> Iterator[int]:
    """Return the steps that the walks through the examples of one request may take together."""
    return iter(range(MOST_FIELDS))


def text_cost(text: bytes, steps: Iterator[int]) -> DecodingCost:
    """Return the cost of a text as an image, and the most of the images in it as a tf.Example: it may be both.

    Raises:
        StatusError: INVALID_ARGUMENT: no step is left.
    """
    if not any(magic in text for magic in READERS):  # as quick as the fields of a long text may be slow
        return DecodingCost()
    costs = [decoding_cost(text), *map(decoding_cost, _example_texts(text, steps))]
    return DecodingCost(*(max(values) for values in zip(*costs, strict=True)))


def is_base64_of_image(text: bytes, steps: Iterator[int]) -> bool:
    """Return whether a text, or one in it as a tf.Example, is base64 of an image or of a tf.Example with an image.

    Raises:
        StatusError: INVALID_ARGUMENT: no step is left.
    """
    if text.startswith(tuple(READERS)):  # an image as it should be: its bytes need no search
        return False
    if _stands_for_image(text, steps):
        return True
    if not any(first in text for first in _BASE64_MAGICS):  # as above
        return False
    return any(_stands_for_image(one, steps) for one in _example_texts(text, steps))


def _stands_for_image(text: bytes, steps: Iterator[int]) -> bool:
    found = _BASE64.match(text)
    if not found:
        return False
    written = text[found.start(1) : found.start(1) + _LOOKED_AT].translate(_STANDARD, b" \t\r\n=")
    try:
        decoded = binascii.a2b_base64(written[: len(written) // 4 * 4])
    except ValueError:
        return False
    return decoded.startswith(tuple(READERS)) or text_cost(decoded, steps).pixels > 0


class _StepsEndError(Exception):
    """There is no step left for a walk."""


def _example_texts(text: bytes, steps: Iterator[int]) -> Iterator[bytes]:
    """Yield the texts of a tf.Example."""
    image = text.startswith(tuple(READERS))
    try:
        own = itertools.islice(steps, _FIELDS_OF_AN_IMAGE) if image else steps
        yield from _fields(memoryview(text), _EXAMPLE_TEXTS, own)
    except _StepsEndError:
        if not image:
            raise invalid(f"more than {MOST_FIELDS} fields in the examples of a request") from None


def _fields(message: memoryview, path: tuple[int, ...], steps: Iterator[int]) -> Iterator[bytes]:
    """Yield the contents of protobuf's fields of these numbers, one within the other, until the message is broken.

    They are all the fields that any parser may choose. TensorFlow's parser accepts keys that are not UTF-8 and messages
    that are broken further on, and takes the first of fields that exclude each other. protobuf refuses these, and takes
    the last.

    Source: https://protobuf.dev/programming-guides/encoding and tensorflow/core/util/example_proto_fast_parsing.cc
    """
    if not path:
        yield bytes(message)
        return
    position = 0
    try:
        while position < len(message):
            if next(steps, None) is None:
                raise _StepsEndError
            tag, position = _varint(message, position)
            number, wire_type = tag >> 3, tag & 7
            if wire_type == 0:
                _, position = _varint(message, position)
            elif wire_type == 2:
                size, position = _varint(message, position)
                if number == path[0]:
                    yield from _fields(message[position : position + size], path[1:], steps)
                position += size
            else:
                position += SIZES[wire_type]
    except (IndexError, KeyError):
        return


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the lowest 32 bits of the number, as TensorFlow reads it, and the position after it."""
    value, position = read_varint(message, position)
    return value & 0xFFFFFFFF, position


# The beginning of base64: of a data: URI or alone, standard or URL-safe.
_BASE64 = re.compile(rb"\s*(?:data:[^,]{0,100},)?\s*([A-Za-z0-9+/_-]{24})")
_STANDARD = bytes.maketrans(b"-_", b"+/")
# The characters that a magic number alone decides.
_STANDARD_MAGICS = [binascii.b2a_base64(magic)[: len(magic) * 8 // 6] for magic in READERS]
_BASE64_MAGICS = {*_STANDARD_MAGICS, *(magic.translate(bytes.maketrans(b"+/", b"-_")) for magic in _STANDARD_MAGICS)}
