"""Image files of every format, and parts of them, for the tests of decoding."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

EXIF = b"Exif\0\0"
ORIENTATIONS = range(1, 9)


def photo(mode: str = "RGB", size: tuple[int, int] = (53, 38), seed: int = 0) -> Image.Image:
    """Return a smooth image without symmetries, in any of Pillow's modes."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 251)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def saved(image: Image.Image, format: str, **options) -> bytes:
    """Encode an image."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pillow(encoded: bytes) -> np.ndarray:
    """Decode an image with Pillow, upright, uint8 [H, W, 3]."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


def tiff(orientation: int, order: str = "<", tag: int = 0x0112, kind: int = 3) -> bytes:
    """Return EXIF data with a text, the orientation and a number, as a camera writes it."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), orientation, *([0] if kind == 3 else []))
    entries = [(0x010E, 2, 4, b"cat\0"), (tag, kind, 1, value), (0x0213, 3, 1, struct.pack(order + "HH", 1, 0))]
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(entries)) + body + bytes(4)


def jpeg_with_segments(*segments: tuple[int, bytes]) -> bytes:
    """Return a JPEG with segments, each (marker, data), before its own."""
    encoded = saved(photo(), "JPEG", quality=95)
    added = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    return encoded[:2] + added + encoded[2:]


def png_with_chunk(code: bytes, data: bytes, *, last: bool = False) -> bytes:
    """Return a PNG with one more chunk, after the header or before the end."""
    encoded = saved(photo(), "PNG")
    chunk = struct.pack(">I", len(data)) + code + data + struct.pack(">I", zlib.crc32(code + data))
    place = len(encoded) - 12 if last else 33  # before IEND, or after IHDR
    return encoded[:place] + chunk + encoded[place:]


def with_riff_chunk(encoded: bytes, code: bytes, data: bytes) -> bytes:
    """Append a chunk to a WebP."""
    chunks = encoded[12:] + code + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
