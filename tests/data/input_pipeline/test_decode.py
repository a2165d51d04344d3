"""Decoding, against Pillow."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kcnn.data.input_pipeline.decode import decode_image, decode_window
from tests.data.input_pipeline.image_files import EXIF, ORIENTATIONS, photo, pillow, saved, tiff, with_riff_chunk

_decode = tf.function(decode_image, input_signature=[tf.TensorSpec([], tf.string)])


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
    """Decode a file made by hand, since Pillow writes 8 bits for every palette."""
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


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_raise(name):
    """Damage files: cut early, none decodes; with wrong bytes in the head, nothing worse than the error happens."""
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
    )  # with subsampling, colour differs a little along the window's edges
    encoded = saved(photo(), format, exif=(EXIF if format == "JPEG" else b"") + tiff(orientation), **options)
    window = tf.function(lambda e: decode_window(e, lambda shape: (tf.constant([3, 8]), shape - [10, 11]), (16, 16)))
    whole = _decode(encoded).numpy()
    height, width, _ = whole.shape
    np.testing.assert_array_equal(window(encoded), whole[3 : height - 7, 8 : width - 3])


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize(("target", "ratio"), [(65, 1), (64, 2), (33, 2), (32, 4), (17, 4), (16, 8), (1, 8)])
def test_large_jpeg_is_decoded_small(orientation, target, ratio):
    """Halve a window whose shorter side, 256 pixels, is at least four times the target, and so on."""
    encoded = saved(photo(size=(400, 336)), "JPEG", quality=95, exif=EXIF + tiff(orientation))
    begin, size = np.array([16, 32], np.int32), np.array([280, 256], np.int32)
    window = decode_window(tf.constant(encoded), lambda _: (begin, size), (target, target)).numpy()
    assert window.shape == (280 // ratio, 256 // ratio, 3)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    expected = upright.crop((32, 16, 288, 296)).reduce(ratio)
    assert np.abs(window.astype(int) - np.asarray(expected)).mean() < 1.5
