"""The chunks of a PNG in Python. https://www.w3.org/TR/png-3, 5.3 and 5.6."""

import struct
from collections.abc import Iterator


def walk_png(encoded: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk of a PNG, and where it begins and ends; none where the header is not the first.

    A second header ends the walk: Pillow would take it.
    """
    position, name = 8, b""
    while position + 12 <= len(encoded) and name != b"IEND":
        length, name = struct.unpack_from(">I4s", encoded, position)
        if (name == b"IHDR") != (position == 8) or (position == 8 and length != 13):
            return
        yield name, position, position + 12 + length
        position += 12 + length


def strip_png(encoded: bytes) -> bytes:
    """Return a PNG with what its pixels and its orientation take, and no other chunk; b"" without a header in front."""
    kept = [encoded[start:end] for name, start, end in walk_png(encoded) if name in _NEEDED]
    return encoded[:8] + b"".join(kept) if kept else b""


# Those of animations tell how many frames there are.
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL"}
