"""Decoding, against Pillow."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kcnn.data.input_pipeline.decode import decode_image, decode_window
from tests.data.input_pipeline.image_files import (
    EXIF,
    GIF_COLOURS,
    ORIENTATIONS,
    bmp,
    gif,
    photo,
    pillow,
    png,
    saved,
    tiff,
    with_riff_chunk,
)

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
    "gif transparent": saved(photo("P"), "GIF", transparency=3),
    "png 2 bits transparent": saved(photo("P").quantize(4), "PNG", transparency=bytes([0, 90, 255, 30]), bits=2),
    "png grey with a transparent shade": saved(photo("L").point(lambda value: value // 64), "PNG", transparency=1),
    "webp animated alpha": saved(
        photo("RGBA"), "WEBP", save_all=True, append_images=[photo("RGBA", seed=1)], exact=True
    ),
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


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W, 3] of colours and alpha from 0 to 255, [H, W, 3] and [H, W]."""
    share = alpha[..., None] / 255
    return np.round(share * colours + (1 - share) * 255).astype(np.uint8)


@pytest.mark.parametrize("shade", [0, 255, 77])
def test_a_shape_that_is_in_the_alpha_alone_is_seen(shade):
    alpha = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colours = np.full((16, 16, 3), shade, np.uint8)
    image = Image.fromarray(np.dstack([colours, alpha]))
    grey = image.convert("LA")
    files = [
        saved(one, format, **options)
        for one in (image, grey)
        for format, options in (("PNG", {}), ("PNG", {"optimize": True}))
    ]
    files += [saved(image, "WEBP", lossless=True, exact=True), bmp(np.asarray(image), MASKS)]
    for encoded in files:
        np.testing.assert_array_equal(_decode(encoded), on_white(colours, alpha))


MASKS = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)


def test_a_bmp_has_alpha_where_it_says_so():
    pixels = np.asarray(photo("RGBA"))[..., [2, 1, 0, 3]]
    with_alpha, without = bmp(pixels, MASKS), bmp(pixels, MASKS[:12] + bytes(4))
    np.testing.assert_array_equal(_decode(with_alpha), pillow(with_alpha))
    np.testing.assert_array_equal(_decode(with_alpha), on_white(pixels[..., 2::-1], pixels[..., 3]))
    np.testing.assert_array_equal(_decode(without), pixels[..., 2::-1])


def test_sixteen_bits_with_alpha_keep_the_high_byte_of_it():
    samples = np.random.default_rng(0).integers(0, 2**16, (5, 7, 4)).astype(">u2")
    high = samples >> 8
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    encoded = png(6, 16, (7, 5), rows)
    np.testing.assert_array_equal(_decode(encoded), on_white(high[..., :3], high[..., 3]))


@pytest.mark.parametrize(("colour", "samples"), [(0, 1), (2, 3)])
def test_one_colour_of_sixteen_bits_is_transparent(colour, samples):
    hidden, shown = struct.pack(">H", 1000) * samples, struct.pack(">H", 1001) * samples
    encoded = png(colour, 16, (2, 1), b"\0" + hidden + shown, tRNS=hidden)
    np.testing.assert_array_equal(_decode(encoded), [[[255] * 3, [3] * 3]])


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("transparent", [None, 0, 1, 3, 200])
def test_what_a_gif_does_not_cover_is_white(transparent, local):
    """Place a frame on a larger canvas; black that is drawn stays black beside what is transparent."""
    rng = np.random.default_rng(0)
    indices, second = rng.integers(0, 4, (5, 6), np.uint8), rng.integers(0, 4, (9, 9), np.uint8)
    expected = np.full((11, 12, 3), 255, np.uint8)
    expected[4:9, 2:8] = np.where((indices == transparent)[..., None], 255, GIF_COLOURS[indices])
    for frames in ([((2, 4), indices)], [((2, 4), indices), ((0, 0), second)]):
        np.testing.assert_array_equal(_decode(gif(frames, (12, 11), transparent, local)), expected)
    whole = gif([((0, 0), second)], (9, 9), transparent, local)
    np.testing.assert_array_equal(_decode(whole), pillow(whole))


def test_a_gif_whose_frame_reaches_over_its_canvas_is_as_large_as_both():
    indices = np.random.default_rng(0).integers(0, 4, (5, 6), np.uint8)
    encoded = gif([((3, 1), indices)], (4, 20), transparent=0)
    np.testing.assert_array_equal(_decode(encoded), pillow(encoded))


def test_what_a_frame_of_an_animated_webp_does_not_cover_is_white():
    frame = photo("RGBA", (20, 10))
    for options in ({"lossless": True, "exact": True}, {"exact": True}):
        still = saved(frame, "WEBP", **options)
        chunks = still[30:] if still[12:16] == b"VP8X" else still[12:]
        place = struct.pack("<I", 3)[:3] + struct.pack("<I", 2)[:3]  # pairs of pixels from the left and from the top
        size = struct.pack("<I", 19)[:3] + struct.pack("<I", 9)[:3]
        canvas = struct.pack("<I", 39)[:3] + struct.pack("<I", 29)[:3]
        body = b"VP8X" + struct.pack("<II", 10, 0x12) + canvas + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
        body += b"ANMF" + struct.pack("<I", 16 + len(chunks)) + place + size + bytes(4) + chunks
        encoded = b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body
        expected = np.full((30, 40, 3), 255, np.uint8)
        expected[4:14, 6:26] = _decode(still)
        np.testing.assert_array_equal(_decode(encoded), expected)
        assert np.abs(pillow(encoded).astype(int) - expected).max() <= 2


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
