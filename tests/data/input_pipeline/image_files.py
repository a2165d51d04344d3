"""Image files of every format, and parts of them, for the tests of decoding."""

import io
import struct
import zlib
from collections.abc import Sequence

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
    """Decode an image with Pillow, upright, on white, uint8 [H, W, 3]."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return np.asarray(white)


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


def png(colour: int, bits: int, size: tuple[int, int], rows: bytes, **chunks: bytes) -> bytes:
    """Return a PNG made by hand: its colour type, bits of a sample, (width, height), filtered rows, further chunks."""
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *((name.encode(), data) for name, data in chunks.items())]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = (
        struct.pack(">I", len(data)) + code + data + struct.pack(">I", zlib.crc32(code + data)) for code, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def gif(
    frames: Sequence[tuple[tuple[int, int], np.ndarray]],
    canvas: tuple[int, int],
    transparent: int | None = None,
    local: bool = False,
) -> bytes:
    """Return a GIF made by hand, whose colours are 4 shades of a table.

    Args:
        frames: of each, where it stands, (left, top), and its indices, uint8 [h, w], 0 to 3.
        canvas: (width, height).
        transparent: the index that is transparent; None for none.
        local: whether the table stands in the frames; then a table of reds stands before them.
    """
    table, reds = bytes(GIF_COLOURS.tobytes()), b"\xff\0\0" * 4
    encoded = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x81, 0, 0) + (reds if local else table)
    for place, indices in frames:
        if transparent is not None:
            encoded += b"\x21\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0"
        encoded += b"\x2c" + struct.pack("<HHHHB", *place, *indices.shape[::-1], 0x81 if local else 0)
        # Each index is a code of 3 bits, and a clear code (4) before each keeps the width; 5 ends the data.
        codes = [code for index in indices.ravel().tolist() for code in (4, index)] + [5]
        number = sum(code << 3 * place for place, code in enumerate(codes))
        data = number.to_bytes(-(-3 * len(codes) // 8), "little")
        blocks = (data[at : at + 255] for at in range(0, len(data), 255))
        encoded += (table if local else b"") + b"\x02" + b"".join(bytes([len(one)]) + one for one in blocks) + b"\0"
    return encoded + b";"


GIF_COLOURS = np.array([[0, 0, 0], [200, 10, 60], [0, 0, 0], [255, 250, 240]], np.uint8)


def bmp(pixels: np.ndarray, masks: bytes) -> bytes:
    """Return a BMP of 32 bits with a header of version 4: uint8 [H, W, 4] in the file's order, and the four masks."""
    body = pixels[::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, pixels.shape[1], len(pixels), 1, 32, 3, len(body), 0, 0, 0, 0)
    header += masks + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(body), 0, 0, 122) + header + body


def with_riff_chunk(encoded: bytes, code: bytes, data: bytes) -> bytes:
    """Append a chunk to a WebP."""
    chunks = encoded[12:] + code + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks
