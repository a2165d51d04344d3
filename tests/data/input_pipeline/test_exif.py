"""EXIF orientation: found wherever it stands, and ignored where it is malformed."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn.data.input_pipeline.decode import decode_image
from kcnn.data.input_pipeline.exif import exif_orientation
from tests.data.input_pipeline.image_files import (
    EXIF,
    ORIENTATIONS,
    jpeg_with_segments,
    photo,
    pillow,
    png_with_chunk,
    saved,
    tiff,
    with_riff_chunk,
)

_decode = tf.function(decode_image, input_signature=[tf.TensorSpec([], tf.string)])
_orientation = tf.function(exif_orientation, input_signature=[tf.TensorSpec([], tf.string)])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "WEBP animated"])
def test_orientation(format, orientation, order):
    exif = tiff(orientation, order)
    options = {"lossless": True} if "WEBP" in format else {}
    if "animated" in format:
        options |= {"save_all": True, "append_images": [photo(seed=1)]}
    encoded = saved(photo(), format.split()[0], exif=EXIF + exif if format == "JPEG" else exif, **options)
    assert Image.open(io.BytesIO(encoded)).getexif()[0x0112] == orientation
    assert _orientation(encoded) == orientation
    decoded, expected = _decode(encoded).numpy(), pillow(encoded)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 2


HIDDEN = {
    "after other segments": jpeg_with_segments(
        (0xE2, bytes(65533)), (0xFE, b"comment"), (0xE1, b"http://ns.adobe.com/xap/1.0/\0"), (0xE1, EXIF + tiff(6))
    ),
    "after a padded marker": jpeg_with_segments((0xE1, EXIF + tiff(6))).replace(b"\xff\xe1", b"\xff\xff\xff\xe1", 1),
    "as a long": jpeg_with_segments((0xE1, EXIF + tiff(6, "<", kind=4))),
    "as a big-endian long": jpeg_with_segments((0xE1, EXIF + tiff(6, ">", kind=4))),
    "at the end of a PNG": png_with_chunk(b"eXIf", tiff(6), last=True),
    "after a WebP's image": with_riff_chunk(saved(photo(), "WEBP", xmp=b"<x/>"), b"EXIF", tiff(6)),
    "with a JPEG's prefix in a WebP": with_riff_chunk(saved(photo(), "WEBP", xmp=b"<x/>"), b"EXIF", EXIF + tiff(6)),
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
        jpeg_with_segments((0xE1, EXIF + data)),
        png_with_chunk(b"eXIf", data),
        with_riff_chunk(riff, b"EXIF", data),
    ):
        assert _orientation(encoded) == 1
        assert _decode(encoded).shape == (38, 53, 3)
