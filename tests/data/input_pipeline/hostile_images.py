"""Image files made by hand that ask for more work than their size tells."""

import struct
import zlib

from tests.data.input_pipeline.image_files import png

END = b"\xff\xd9"


def segment(marker: int, data: bytes) -> bytes:
    """Return a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def scan(components: int = 1, first: int = 1, last: int = 63) -> bytes:
    """Return a JPEG's scan of so many components, and of these coefficients, without data."""
    chosen = b"".join(bytes([one + 1, 0]) for one in range(components))
    return segment(0xDA, bytes([components]) + chosen + bytes([first, last, 0]))


def jpeg_of_scans(size: tuple[int, int], *parts: bytes, frame: int = 0xC2, components: int = 3) -> bytes:
    """Return a JPEG without its end: the headers, and the parts that follow.

    Args:
        size: (width, height).
        parts: scans and whatever stands between them.
        frame: the marker of the frame header: 0xC0 for baseline, 0xC2 for progressive.
        components: of the frame, 1 to 4.
    """
    samples = b"".join(bytes([one + 1, 0x11, 0]) for one in range(components))
    header = segment(frame, struct.pack(">BHHB", 8, *size[::-1], components) + samples)
    tables = b"".join(segment(0xC4, bytes([kind, 1, *[0] * 16])) for kind in (0, 0x10))  # one code of one bit
    return b"\xff\xd8" + segment(0xDB, b"\0" + b"\1" * 64) + header + tables + b"".join(parts)


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def text_bomb(name: bytes = b"zTXt", size: int = 7_900_000) -> bytes:
    """Return a chunk of a PNG whose text is `size` zeros."""
    head = b"key\0\1\0\0\0" if name == b"iTXt" else b"key\0\0"
    return chunk(name, head + zlib.compress(bytes(size), 9))


def with_chunks(encoded: bytes, *, first: bytes = b"", middle: bytes = b"", last: bytes = b"") -> bytes:
    """Return a PNG with chunks before its header, after it, and before its end."""
    return encoded[:8] + first + encoded[8:33] + middle + encoded[33:-12] + last + encoded[-12:]


def grey_png(size: tuple[int, int], *data_chunks: bytes) -> bytes:
    """Return a black PNG; its compressed data stand in a last chunk after these chunks."""
    width, height = size
    encoded = png(0, 8, size, (b"\0" + bytes(width)) * height)
    return encoded[:33] + b"".join(data_chunks) + encoded[33:]
