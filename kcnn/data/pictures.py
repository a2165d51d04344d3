"""Images as Pillow reads them: the errors of damaged ones, their orientation, and their luminance."""

import struct
import warnings

import numpy as np
from PIL import Image

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large photos are no attack

DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # raised by opening and decoding
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


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened image, 1 to 8; 1 where it is missing or malformed."""
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except (OSError, SyntaxError, ValueError, struct.error):
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def turn_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn the pixels as an EXIF orientation says.

    `ImageOps.exif_transpose` would write the EXIF anew, and fail where it is malformed.
    """
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def decode_luminance(image: Image.Image) -> Image.Image:
    """Decode an opened image to 8-bit grey (ITU-R 601); a large JPEG at a fraction of its size, 256 pixels or more."""
    image.draft("L", (_DECODED_SIDE, _DECODED_SIDE))
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")
