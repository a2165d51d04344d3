"""Thumbnails of the pictures that a page shows."""

import io
from collections.abc import Iterable

from PIL import Image, ImageOps

from kcnn.data import pictures
from kcnn.data.records import TFExample, read_records

_SIDE = 96  # pixels


def make_thumbnails(paths: Iterable[str], filenames: set[str]) -> dict[str, bytes]:
    """Make thumbnails of some of the images in shards.

    Args:
        paths: the shards.
        filenames: the images.

    Returns:
        filename → WebP of at most 96 pixels a side, upright; b"" where Pillow cannot read the image.

    Raises:
        UserError: a shard is damaged.
    """
    found = {}
    for path in paths:
        for record in read_records(path):
            features = TFExample.FromString(record).features.feature
            name = features["image/filename"].bytes_list.value[0].decode("utf-8", "surrogateescape")
            if name in filenames:
                found[name] = make_thumbnail(features["image/encoded"].bytes_list.value[0])
    return found


def make_thumbnail(encoded: bytes) -> bytes:
    """Return a WebP of at most 96 pixels a side, upright; b"" where Pillow cannot read the image."""
    try:
        with pictures.open_picture(encoded) as image:
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            orientation = pictures.read_orientation(image)
            small = pictures.decode_colours(image)
    except pictures.DamagedPictureError:
        return b""
    small.thumbnail((_SIDE, _SIDE))
    small = pictures.turn_upright(small, orientation)
    small = ImageOps.scale(small, max(1, _SIDE // max(small.size)), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=80)
    return buffer.getvalue()
