"""Images as Pillow reads them, where no TensorFlow is loaded: their damage, their orientation, and their pixels.

The pixels are those of `kcnn.data.input_pipeline.decode`: what is transparent is on white, 16 bits keep the high byte.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from kcnn.data.input_pipeline.headers import decoding_cost, find_excess
from kcnn.data.input_pipeline.magic import PNG
from kcnn.data.input_pipeline.png_files import strip_png

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large photos are no attack

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")  # Pillow's names of what kcnn reads; no other decoder is run
_ORIENTATION_TAG = 0x0112  # Exif 2.32, section 4.6.5
_DECODED_SIDE = 256  # pixels: a JPEG is decoded at a half, a quarter or an eighth while its sides stay above this
_Transpose = Image.Transpose
_UPRIGHT = {
    2: _Transpose.FLIP_LEFT_RIGHT,
    3: _Transpose.ROTATE_180,
    4: _Transpose.FLIP_TOP_BOTTOM,
    5: _Transpose.TRANSPOSE,
    6: _Transpose.ROTATE_270,
    7: _Transpose.TRANSVERSE,
    8: _Transpose.ROTATE_90,
}


class DamagedPictureError(Exception):
    """A picture cannot be read; the message says why, in Pillow's words."""


@contextlib.contextmanager
def reading_picture() -> Iterator[None]:
    """Raise DamagedPictureError for whatever Pillow raises within the context.

    A decoder that meets damage raises anything: struct.error, NotImplementedError, KeyError, and others.
    """
    try:
        yield
    except Exception as error:
        raise DamagedPictureError(str(error).partition("<")[0].strip() or type(error).__name__) from error


@contextlib.contextmanager
def open_picture(encoded: bytes) -> Iterator[Image.Image]:
    """Open an image file of a format that kcnn reads. Only what Pillow does with it belongs into the context.

    Raises:
        DamagedPictureError: it passes a limit, it cannot be opened, or anything fails within the context.
    """
    if excess := find_excess(decoding_cost(encoded)):
        raise DamagedPictureError(f"too large: {excess}")
    if encoded.startswith(PNG):
        encoded = strip_png(encoded)
    with reading_picture(), Image.open(io.BytesIO(encoded), formats=_FORMATS) as image:
        yield image


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; 1 where it is missing or malformed."""
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # the parser raises anything, as decoders do
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn the pixels as an EXIF orientation says.

    `ImageOps.exif_transpose` would write the EXIF anew, and fail where it is malformed.
    """
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def decode_colours(image: Image.Image) -> Image.Image:
    """Decode an opened image to 8-bit RGB."""
    if image.mode.startswith("I"):
        return _high_bytes(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def decode_luminance(image: Image.Image) -> Image.Image:
    """Decode an opened image to 8-bit grey (ITU-R 601); a large JPEG at a fraction of its size, 256 pixels or more."""
    image.draft("L", (_DECODED_SIDE, _DECODED_SIDE))
    as_stored = not image.has_transparency_data and not image.mode.startswith("I")
    return (image if as_stored else decode_colours(image)).convert("L")


def transparent_share(image: Image.Image) -> float:
    """Return the share of an opened image's pixels that are not opaque, 0 to 1."""
    if not image.has_transparency_data:
        return 0.0
    if image.mode.startswith("I"):
        return float(np.mean(np.asarray(image) == image.info["transparency"]))
    return 1 - image.convert("RGBA").getchannel("A").histogram()[255] / (image.width * image.height)


def _high_bytes(image: Image.Image) -> Image.Image:
    """Return the high bytes of 16-bit grey, which Pillow would clip; one shade may be transparent."""
    samples = np.asarray(image)
    return Image.fromarray(np.where(samples == image.info.get("transparency"), 255, samples >> 8).astype(np.uint8))
