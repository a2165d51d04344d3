"""EXIF orientation in the TensorFlow graph: where JPEG, PNG and WebP keep it, and how an image is turned by it.

Orientation and its values: Exif 2.32, section 4.6.5, tag 0x0112.
"""

from collections.abc import Callable

import tensorflow as tf

from kcnn.data.input_pipeline.containers import (
    chunk_code,
    contains,
    find_riff_chunk,
    not_inlined,
    read_bytes,
    read_integers,
    starts_with,
    walk_segments,
)
from kcnn.data.input_pipeline.magic import JPEG, PNG, WEBP

# Orientation → how the stored image becomes upright: transposed first, then reversed along (rows, columns).
TRANSPOSED = (False, False, False, False, False, True, True, True, True)
REVERSED = tuple((i in (3, 4, 7, 8), i in (2, 3, 6, 7)) for i in range(9))
_ORIENTATION_TAG = 0x0112
_LONG = 4  # the TIFF type of a 32-bit value


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of a JPEG, PNG or WebP, int32 scalar from 1 to 8; 1 where it is missing or malformed.

    It agrees with Pillow, except where the orientation stands in XMP or in the text chunks of a PNG alone.
    """

    def gated(letters: str, orientation: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[], tf.Tensor]:
        # Searching all bytes for the letters costs 1% of decoding a photo, following the segments 10%.
        return lambda: tf.cond(contains(encoded, letters), lambda: orientation(encoded), lambda: 1)

    finders = [
        (starts_with(encoded, JPEG), gated("Exif", _jpeg_orientation)),
        (starts_with(encoded, PNG), gated("eXIf", _png_orientation)),
        (starts_with(encoded, WEBP), gated("EXIF", _webp_orientation)),
    ]
    return tf.case(finders, default=lambda: 1)


def apply_orientation(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turn a stored image, uint8 [H, W, 3], as its EXIF orientation (int32 scalar, 1 to 8) says."""

    def turned() -> tf.Tensor:
        transposed = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        return tf.raw_ops.Reverse(tensor=transposed, dims=tf.concat([tf.gather(REVERSED, orientation), [False]], 0))

    image = tf.ensure_shape(image, [None, None, 3])
    return tf.cond(orientation > 1, turned, lambda: image)


@not_inlined
def _jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the first EXIF segment before the compressed data."""

    def is_exif(position: tf.Tensor) -> tf.Tensor:
        return read_bytes(encoded, position + 4, 6) == b"Exif\0\0"

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        marker, length = tf.unstack(read_integers(encoded, position, 2, tf.uint16, little=False))
        stop = (marker < 0xFFC0) | (marker == 0xFFDA) | ((marker == 0xFFE1) & is_exif(position))
        return stop, position + tf.where(marker == 0xFFFF, 1, 2 + length)  # a marker may be padded with 0xFF

    return _tiff_orientation(encoded, walk_segments(2, step) + 10)


@not_inlined
def _png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the eXIf chunk, before or after the image."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length, code = tf.unstack(read_integers(encoded, position, 2, tf.int32, little=False))
        stop = tf.reduce_any(code == [0, chunk_code(b"eXIf", little=False)])
        return stop | (length < 0), position + 12 + length

    return _tiff_orientation(encoded, walk_segments(8, step) + 8)


@not_inlined
def _webp_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the EXIF chunk, which some writers begin as in a JPEG."""
    start = find_riff_chunk(encoded, [chunk_code(b"EXIF")]) + 8
    return _tiff_orientation(encoded, start + tf.where(read_bytes(encoded, start, 6) == b"Exif\0\0", 6, 0))


def _tiff_orientation(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Return the orientation in the TIFF data at `start`; 1 where there is none."""

    def parse(little: bool) -> tf.Tensor:
        directory = start + read_integers(encoded, start + 4, 1, tf.int32, little)[0]
        count = read_integers(encoded, directory, 1, tf.uint16, little)[0]
        # An entry is tag, type, count (two words), value (two words, of which a SHORT fills the first).
        entries = read_integers(encoded, directory + 2, 6 * (count + 1), tf.uint16, little)
        entries = tf.reshape(entries, [-1, 6])[:count]
        values = entries[:, 4] if little else tf.where(entries[:, 1] == _LONG, entries[:, 5], entries[:, 4])
        value = tf.concat([values[entries[:, 0] == _ORIENTATION_TAG], [1]], axis=0)[0]
        return tf.where((value >= 1) & (value <= 8), value, 1)

    order = read_bytes(encoded, start, 4)
    return tf.case(
        [(order == b"II*\0", lambda: parse(little=True)), (order == b"MM\0*", lambda: parse(little=False))],
        default=lambda: 1,
    )
