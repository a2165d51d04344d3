"""Decoding, against Pillow."""

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kcnn.data.input_pipeline.containers import stored_pixels
from kcnn.data.input_pipeline.decode import decode_image, decode_window
from kcnn.data.input_pipeline.exif import exif_orientation

_decode = tf.function(decode_image, input_signature=[tf.TensorSpec([], tf.string)])
_orientation = tf.function(exif_orientation, input_signature=[tf.TensorSpec([], tf.string)])
_pixels = tf.function(stored_pixels, input_signature=[tf.TensorSpec([], tf.string)])
_EXIF = b"Exif\0\0"
ORIENTATIONS = range(1, 9)


def photo(mode: str = "RGB", size: tuple[int, int] = (53, 38), seed: int = 0) -> Image.Image:
    """A smooth image without symmetries, in any of Pillow's modes."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 7, 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA").resize(size, Image.Resampling.BICUBIC)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 251)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def pillow(encoded: bytes) -> np.ndarray:
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


def tiff(orientation: int, order: str = "<", tag: int = 0x0112, kind: int = 3) -> bytes:
    """EXIF data with a text, the orientation and a number, as a camera writes it."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), orientation, *([0] if kind == 3 else []))
    entries = [(0x010E, 2, 4, b"cat\0"), (tag, kind, 1, value), (0x0213, 3, 1, struct.pack(order + "HH", 1, 0))]
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, len(entries)) + body + bytes(4)


def jpeg_with_segments(*segments: tuple[int, bytes]) -> bytes:
    encoded = saved(photo(), "JPEG", quality=95)
    added = b"".join(struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data for marker, data in segments)
    return encoded[:2] + added + encoded[2:]


def png_with_chunk(code: bytes, data: bytes, *, last: bool = False) -> bytes:
    encoded = saved(photo(), "PNG")
    chunk = struct.pack(">I", len(data)) + code + data + struct.pack(">I", zlib.crc32(code + data))
    place = len(encoded) - 12 if last else 33  # before IEND, or after IHDR
    return encoded[:place] + chunk + encoded[place:]


def with_riff_chunk(encoded: bytes, code: bytes, data: bytes) -> bytes:
    chunks = encoded[12:] + code + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


FILES = {
    "jpeg": saved(photo(), "JPEG", quality=90),
    "jpeg progressive": saved(photo(), "JPEG", quality=90, progressive=True),
    "jpeg 4:4:4": saved(photo(), "JPEG", quality=90, subsampling=0),
    "jpeg grey": saved(photo("L"), "JPEG"),
    "jpeg cmyk": saved(photo("CMYK"), "JPEG", quality=95),
    "png": saved(photo(), "PNG"),
    "png grey": saved(photo("L"), "PNG"),
    "png grey alpha": saved(photo("LA"), "PNG"),
    "png rgba": saved(photo("RGBA"), "PNG"),
    "png palette": saved(photo("P"), "PNG"),
    "png palette transparent": saved(photo("P"), "PNG", transparency=3),
    "png 1 bit": saved(photo("1"), "PNG"),
    "gif": saved(photo("P"), "GIF"),
    "gif animated": saved(photo("P"), "GIF", save_all=True, append_images=[photo("P", seed=1), photo("P", seed=2)]),
    "bmp": saved(photo(), "BMP"),
    "bmp 32 bits": saved(photo("RGBA"), "BMP"),
    "bmp grey": saved(photo("L"), "BMP"),
    "bmp palette": saved(photo("P"), "BMP"),
    "bmp 1 bit": saved(photo("1"), "BMP"),
    "webp": saved(photo(), "WEBP", quality=90),
    "webp lossless": saved(photo(), "WEBP", lossless=True),
    "webp alpha": saved(photo("RGBA"), "WEBP", quality=90, exact=True),
    "webp lossless alpha": saved(photo("RGBA"), "WEBP", lossless=True, exact=True),
    "webp animated": saved(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)], lossless=True),
    "webp animated lossy": saved(photo(), "WEBP", save_all=True, append_images=[photo(seed=1)]),
    "webp with metadata": with_riff_chunk(saved(photo(), "WEBP", icc_profile=bytes(131)), b"XMP ", b"<x/>"),
}


@pytest.mark.parametrize("name", FILES)
def test_equals_pillow(name):
    decoded, expected = _decode(FILES[name]).numpy(), pillow(FILES[name])
    assert decoded.dtype == np.uint8
    assert decoded.shape == expected.shape == (38, 53, 3)
    tolerance = 2 if "jpeg" in name or "webp" in name else 0
    assert np.abs(decoded.astype(int) - expected).max() <= tolerance


def test_bmp_of_four_bits():
    """Pillow writes 8 bits for every palette, so the file is made by hand."""
    rows, indices = [], np.arange(6 * 5).reshape(6, 5) % 16
    for row in indices[::-1]:
        nibbles = [*row.tolist(), 0, 0, 0]
        rows.append(bytes(a << 4 | b for a, b in zip(nibbles[::2], nibbles[1::2], strict=True)))
    palette = np.random.default_rng(0).integers(0, 256, (16, 4), dtype=np.uint8)
    body = b"".join(rows)
    header = struct.pack("<IiiHHIIiiII", 40, 5, 6, 1, 4, 0, len(body), 0, 0, 16, 0)
    offset = 14 + len(header) + palette.size
    encoded = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + palette.tobytes() + body
    np.testing.assert_array_equal(_decode(encoded), palette[:, 2::-1][indices])
    np.testing.assert_array_equal(pillow(encoded), palette[:, 2::-1][indices])
    with pytest.raises(tf.errors.InvalidArgumentError):
        _decode(encoded[:-1])


def test_sixteen_bits_keep_the_high_byte():
    image = photo("I;16")
    decoded = _decode(saved(image, "PNG")).numpy()
    np.testing.assert_array_equal(decoded, np.repeat(np.asarray(image)[..., None] >> 8, 3, axis=2))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "WEBP animated"])
def test_orientation(format, orientation, order):
    exif = tiff(orientation, order)
    options = {"lossless": True} if "WEBP" in format else {}
    if "animated" in format:
        options |= {"save_all": True, "append_images": [photo(seed=1)]}
    encoded = saved(photo(), format.split()[0], exif=_EXIF + exif if format == "JPEG" else exif, **options)
    assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == orientation
    assert _orientation(encoded) == orientation
    decoded, expected = _decode(encoded).numpy(), pillow(encoded)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 2


HIDDEN = {
    "after other segments": jpeg_with_segments(
        (0xE2, bytes(65533)), (0xFE, b"comment"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xE1, _EXIF + tiff(6))
    ),
    "after a padded marker": jpeg_with_segments((0xE1, _EXIF + tiff(6))).replace(b"\xff\xe1", b"\xff\xff\xff\xe1", 1),
    "as a long": jpeg_with_segments((0xE1, _EXIF + tiff(6, "<", kind=4))),
    "as a big-endian long": jpeg_with_segments((0xE1, _EXIF + tiff(6, ">", kind=4))),
    "at the end of a PNG": png_with_chunk(b"eXIf", tiff(6), last=True),
    "after a WebP's image": with_riff_chunk(saved(photo(), "WEBP", xmp=b"<x/>"), b"EXIF", tiff(6)),
    "with a JPEG's prefix in a WebP": with_riff_chunk(saved(photo(), "WEBP", xmp=b"<x/>"), b"EXIF", _EXIF + tiff(6)),
}


@pytest.mark.parametrize("place", HIDDEN)
def test_orientation_is_found(place):
    assert _orientation(HIDDEN[place]) == 6
    assert _decode(HIDDEN[place]).shape == (53, 38, 3)


MALFORMED = {
    "no orientation": tiff(6, tag=0x0113),
    "orientation 0": tiff(0),
    "orientation 9": tiff(9),
    "huge orientation": tiff(2**31 - 1, kind=4),
    "empty": b"",
    "not TIFF": b"hello, world" * 9,
    "cut in the header": tiff(6)[:6],
    "cut in an entry": tiff(6)[:24],
    "directory far away": b"II*\0" + struct.pack("<I", 2**31 - 1) + tiff(6)[8:],
    "directory before the start": b"II*\0" + struct.pack("<i", -(2**31)) + tiff(6)[8:],
    "many entries": tiff(1)[:8] + b"\xff\xff" + tiff(1)[10:],
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_malformed_exif_is_ignored(fault):
    data = MALFORMED[fault]
    riff = saved(photo(), "WEBP", xmp=b"<x/>")
    for encoded in (
        jpeg_with_segments((0xE1, _EXIF + data)),
        png_with_chunk(b"eXIf", data),
        with_riff_chunk(riff, b"EXIF", data),
    ):
        assert _orientation(encoded) == 1
        assert _decode(encoded).shape == (38, 53, 3)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_raise(name):
    """Cut early, no file decodes; with wrong bytes in its head, nothing worse than the error happens."""
    encoded = FILES[name]
    for part in np.linspace(0, 0.3, 6):
        with pytest.raises(tf.errors.InvalidArgumentError):
            _decode(encoded[: int(part * len(encoded))])
    rng = np.random.default_rng(0)
    for _ in range(20):
        damaged = bytearray(encoded)
        for place in rng.integers(0, min(len(damaged), 200), 3):
            damaged[place] = rng.integers(256)
        try:
            assert _decode(bytes(damaged)).shape[2] == 3
        except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError):
            continue


@pytest.mark.parametrize(
    "encoded", [b"", b"BM", b"RIFF", b"\xff\xd8\xff", b"\x89PNG", b"GIF89a", b"hello", b"II*\0" * 9]
)
def test_what_is_no_image_raises(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError):
        _decode(encoded)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_window_is_a_part_of_the_upright_image(format, orientation):
    options = (
        {"subsampling": 0} if format == "JPEG" else {}
    )  # otherwise colour differs a little along the window's edges
    encoded = saved(photo(), format, exif=(_EXIF if format == "JPEG" else b"") + tiff(orientation), **options)
    window = tf.function(lambda e: decode_window(e, lambda shape: (tf.constant([3, 8]), shape - [10, 11]), (16, 16)))
    whole = _decode(encoded).numpy()
    height, width, _ = whole.shape
    np.testing.assert_array_equal(window(encoded), whole[3 : height - 7, 8 : width - 3])


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("target", "ratio"), [(65, 1), (64, 2), (33, 2), (32, 4), (17, 4), (16, 8), (1, 8)])
def test_large_jpeg_is_decoded_small(orientation, target, ratio):
    """The window's shorter side is 256 pixels: it is halved when that is at least four times the target, and so on."""
    encoded = saved(photo(size=(400, 336)), "JPEG", quality=95, exif=_EXIF + tiff(orientation))
    begin, size = np.array([16, 32], np.int32), np.array([280, 256], np.int32)
    window = decode_window(tf.constant(encoded), lambda _: (begin, size), (target, target)).numpy()
    assert window.shape == (280 // ratio, 256 // ratio, 3)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    expected = upright.crop((32, 16, 288, 296)).reduce(ratio)
    assert np.abs(window.astype(int) - np.asarray(expected)).mean() < 1.5


@pytest.mark.parametrize("size", [(1, 1), (37, 100), (640, 3)])
def test_the_pixels_that_a_file_stores(size):
    image = photo(size=size)
    for encoded in (
        *(saved(image, format) for format in ("JPEG", "PNG", "BMP", "WEBP")),
        saved(image, "WEBP", lossless=True),
        saved(photo("RGBA", size), "WEBP"),
        saved(image, "WEBP", save_all=True, append_images=[photo(size=size, seed=1)]),
    ):
        assert _pixels(encoded) == size[0] * size[1]
    assert _pixels(b"") == _pixels(b"x") == -1


def test_the_frames_that_a_gif_stores():
    """With colours of their own, comments between them, and more than a block each."""
    frames = [photo(size=(90, 70), seed=seed) for seed in range(5)]
    encoded = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"c" * 600)
    assert _pixels(encoded) == 90 * 70 + 5 * 90 * 70 // 3


def test_files_that_store_more_than_they_say():
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 60_000, 60_000, 0) + b"\x02\x02\x4c\x01\x00"
    small = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0, 0, 0)
    one = frame.replace(struct.pack("<H", 60_000), struct.pack("<H", 1))
    assert _pixels(small + frame + b";") > 10**9
    assert _pixels(small + one + b"\x21\xfe\x03abc\x00" + frame + b";") > 10**9
    assert _pixels(small + b"\x21\xfe" + b"\x01x" * 250_000 + b"\x00;") > 10**9  # to keep a server busy
    for damaged in (small, small + frame[:7], small[:9], b"GIF8", small + b"\x21\xfe\xff"):
        assert 0 <= _pixels(damaged) <= 1
    # A WebP of which only what stands around the picture is small.
    canvas = b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + bytes(10)
    lossless = b"VP8L" + struct.pack("<IBI", 8, 0x2F, 9999 | 9999 << 14) + bytes(3)
    lossy = b"VP8 " + struct.pack("<I", 10) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 9000, 8000)
    assert _pixels(canvas + lossless) == 10**8
    assert _pixels(canvas + lossy) == 72 * 10**6
    assert _pixels(canvas + b"ANMF" + struct.pack("<I", 26) + bytes(16) + lossy) == 72 * 10**6
