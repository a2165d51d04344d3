"""Examination: whatever a decoder raises is a reason, and what is admitted is accepted by export and server too."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.data.datasets import ImageSource
from kcnn.data.ingestion.examine import CORRUPT, TOO_LARGE, examine_images
from kcnn.data.input_pipeline.limits import MAX_PIXELS, MAX_SEGMENTS
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.data.scan.scanned_images import scan_record
from kcnn.data.scan.thumbnails import make_thumbnail
from kcnn.data.validation.measures import measure_example
from kcnn.serving.export.rows import read_images
from kcnn.serving.server.image_headers import field_budget, text_cost
from kcnn.serving.server.settings import Settings
from tests.data.input_pipeline.image_files import gif, photo, png, saved
from tests.data.scan.scan_pictures import example

SPEC = Preprocessing((8, 8))
TOO_LARGE_GIF = TOO_LARGE + ", all frames together"


def reasons(files):
    """Return the reasons why files are excluded; None for those that are admitted."""
    sources = [ImageSource(str(index), "cat", None, lambda data=data: data) for index, data in enumerate(files)]
    return [image.reason for image in examine_images(sources)]


def empty_png(width, height):
    """Return a white PNG of one bit, without holding its pixels."""
    rows = zlib.compressobj(9)
    row = b"\0" + b"\xff" * -(-width // 8)
    data = b"".join(rows.compress(row * min(1000, height - at)) for at in range(0, height, 1000)) + rows.flush()
    whole = png(0, 1, (width, height), b"")
    body = struct.pack(">I", len(data)) + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data))
    return whole[:33] + body + whole[-12:]


def gif_of_frames(count, side):
    still = saved(Image.new("L", (side, side), 9), "GIF")
    start = 13 + 3 * 2 ** (1 + (still[10] & 7))
    return still[:start] + still[start:-1] * count + b";"


def jpeg_of_segments(count):
    whole = saved(photo(), "JPEG")
    return whole[:2] + b"\xff\xfe\x00\x03x" * count + whole[2:]


FILES = {
    "ten thousand squared": (empty_png(10_000, 10_000), None),
    "one row more": (empty_png(10_000, 10_001), TOO_LARGE),
    "eleven thousand squared": (empty_png(11_000, 11_000), TOO_LARGE),
    "more than Pillow takes": (empty_png(20_000, 20_000), TOO_LARGE),
    "a header that lies": (
        b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 90_000, -90_000, 1, 24) + bytes(99),
        TOO_LARGE,
    ),
    "frames within": (gif_of_frames(3, 1000), None),
    "frames beyond": (gif_of_frames(300, 1000), TOO_LARGE_GIF),
    "segments": (jpeg_of_segments(MAX_SEGMENTS - 10), None),
    "segments beyond": (jpeg_of_segments(MAX_SEGMENTS + 10), f"too large: more than {MAX_SEGMENTS:,} segments"),
}


@functools.cache
def admitted():
    """Return the reasons of all files, and the statuses that an export gives them."""
    files = [data for data, _ in FILES.values()]
    return reasons(files), read_images(tf.constant(files), SPEC)[1].numpy()


@pytest.mark.parametrize("name", FILES)
def test_what_is_admitted_is_accepted_by_export_and_server(name):
    found, statuses = admitted()
    place = list(FILES).index(name)
    data, expected = FILES[name]
    assert found[place] == expected
    if expected is None:
        assert statuses[place] == b""
        assert text_cost(data, field_budget()).pixels <= Settings(models=()).max_pixels
    else:
        assert text_cost(data, field_budget()).pixels > MAX_PIXELS


def png_with(code, data, last=False):
    whole = saved(photo(), "PNG")
    chunk = struct.pack(">I", len(data)) + code + data + struct.pack(">I", zlib.crc32(code + data))
    place = len(whole) - 12 if last else 33
    return whole[:place] + chunk + whole[place:]


def odd_files():
    """Yield files that make Pillow raise what it documents nowhere, and others damaged by chance."""
    yield b"DDS " + struct.pack("<I", 124) + bytes(72) + struct.pack("<II4s", 32, 4, b"XXXX") + bytes(40)
    for code in (
        b"gAMA",
        b"cHRM",
        b"pHYs",
        b"tRNS",
        b"sRGB",
        b"iCCP",
        b"tEXt",
        b"zTXt",
        b"iTXt",
        b"eXIf",
        b"acTL",
        b"fcTL",
    ):
        for size in (0, 1, 3):
            yield from (png_with(code, b"\1" * size, last) for last in (False, True))
    whole = gif([((0, 0), np.zeros((3, 3), np.uint8))], (3, 3), transparent=1)
    for size in range(4):
        yield whole.replace(b"\x21\xf9\x04", b"\x21\xf9" + bytes([size]))
    yield whole.replace(b"\x21\xf9\x04\x01\0\0\1\0", b"\x21\xf9\x01\x01\0")
    yield b"GIF89a"
    chance = np.random.default_rng(0)
    kinds = [saved(photo(mode), format) for mode, format in (("RGB", "JPEG"), ("P", "PNG"), ("P", "GIF"), ("1", "BMP"))]
    kinds += [
        saved(photo("RGBA"), "WEBP"),
        saved(photo("RGBA"), "WEBP", save_all=True, append_images=[photo("RGBA", seed=1)]),
    ]
    kinds.append(saved(photo("P"), "GIF", save_all=True, append_images=[photo("P", seed=1)], transparency=1))
    for index in range(700):
        data = bytearray(kinds[index % len(kinds)])
        for place in chance.integers(0, min(len(data), 120), 1 + index % 3):
            data[place] = chance.integers(256)
        yield bytes(data[: len(data) if index % 5 else chance.integers(1, len(data))])


def test_whatever_a_decoder_raises_is_a_reason():
    files = list(odd_files())
    found = reasons(files)
    assert {*found} >= {None, CORRUPT}
    good = [data for data, reason in zip(files, found, strict=True) if reason is None]
    assert len(good) > 50
    assert not any(read_images(tf.constant(good), SPEC)[1].numpy())
    for data in files:  # none of these raises, whether it is admitted or not
        make_thumbnail(data)
        measure_example(example("a", data))
        fact = scan_record(example("a", data))
        assert fact.damage or fact.width


@pytest.mark.parametrize(
    "data",
    [
        b"DDS " + bytes(124),
        b"RIFF\x24\0\0\0WAVEfmt " + bytes(28),
        b"%PDF-1.4",
        b"\0\0\1\0\1\0" + bytes(20),
        b"Python",
        b"8BPS\0\1",
    ],
)
def test_no_decoder_is_asked_about_what_is_not_read(data, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a decoder was opened")

    monkeypatch.setattr(Image, "open", refuse)
    (reason,) = reasons([data])
    assert reason == "not an image" or "is not a supported format" in reason


def test_a_picture_of_two_formats_is_of_the_one_that_it_begins_with():
    buffer = io.BytesIO()
    photo().save(buffer, "MPO", save_all=True, append_images=[photo(seed=1)])
    (image,) = examine_images([ImageSource("a", "cat", None, buffer.getvalue)])
    assert (image.reason, image.format, image.width) == (None, "JPEG", 53)
