"""Pictures as Pillow has them: what it raises for damaged ones, and which way up they are."""

import struct
import warnings

from PIL import Image

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large photos are no attack

DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what opening and decoding raise
_ORIENTATION_TAG = 0x0112  # Exif 2.32, section 4.6.5
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


def orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8, of an opened image; 1 where there is none."""
    try:
        found = image.getexif().get(_ORIENTATION_TAG)
    except (OSError, SyntaxError, ValueError, struct.error):  # malformed: as if there were none
        return 1
    return found if isinstance(found, int) and found in _UPRIGHT else 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The pixels turned as EXIF says; `ImageOps.exif_transpose` would write the EXIF anew, and fail where it is odd."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
