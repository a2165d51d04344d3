"""Pictures: turned as Pillow turns them, whatever else is in their EXIF."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from kcnn.data import pictures
from kcnn.data.scan.thumbnails import make_thumbnail

ODD = [(0x010F, 5), (0x011A, 1), (0x011A, 6), (0x0100, 1), (0x9000, 11)]  # tags with wrong types


def photo(*tags):
    """Return a JPEG whose EXIF has these tags, each (tag, type, its four bytes)."""
    entries = b"".join(struct.pack("<HHI", tag, kind, 1) + value for tag, kind, value in sorted(tags))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((64, 48), Image.Resampling.NEAREST).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("number", range(10))
def test_upright_is_as_pillow_turns_it(number):
    image = Image.open(io.BytesIO(photo((0x0112, 3, struct.pack("<HH", number, 0)))))
    found = pictures.turn_upright(image, pictures.read_orientation(image))
    np.testing.assert_array_equal(np.asarray(found), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize(("tag", "kind"), ODD)
def test_odd_exif_costs_no_thumbnail(tag, kind):
    encoded = photo((0x0112, 3, struct.pack("<HH", 6, 0)), (tag, kind, b"\1\0\0\0" if kind != 6 else b"\xff" * 4))
    small = Image.open(io.BytesIO(make_thumbnail(encoded)))
    assert small.size == (48, 64)
