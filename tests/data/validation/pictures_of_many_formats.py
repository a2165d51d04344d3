"""Smooth pictures of many formats, for the tests of measures and statistics."""

import io

import numpy as np
from PIL import Image

from kcnn.data.examples import Example

KINDS = [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGBA"), ("PNG", "P"), ("GIF", "P"), ("BMP", "RGB")]


def encoded_picture(index):
    """Return a smooth picture in one of many formats and sizes: its bytes, format, height and width."""
    rng = np.random.default_rng(index)
    format, mode = KINDS[index % len(KINDS)]
    height, width = (int(side) for side in rng.integers(20, 120, 2) * (1 + 7 * (index % 10 == 0)))
    coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.convert(mode).save(buffer, format)
    return buffer.getvalue(), format, height, width


def labelled_picture(index):
    """Return a picture as an example, with one of four labels."""
    data, format, height, width = encoded_picture(index)
    label = index % 3 + (index % 5 == 0)
    return Example(data, f"{index}.jpg", label, f"klass {label} é", format, height, width, f"{index % 60:064x}")
