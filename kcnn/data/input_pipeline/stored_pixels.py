"""The pixels that a file states, in the TensorFlow graph; `kcnn.data.input_pipeline.headers` is the same in Python."""

import tensorflow as tf

from kcnn.data.input_pipeline.containers import (
    chunk_code,
    find_webp_bitstream,
    not_inlined,
    read_integers,
    read_uint24_pair,
    starts_with,
)
from kcnn.data.input_pipeline.gif_blocks import gif_frames
from kcnn.data.input_pipeline.jpeg_scans import count_scans
from kcnn.data.input_pipeline.limits import ENDLESS, MAX_SCANNED_PIXELS, MAX_SCANS
from kcnn.data.input_pipeline.magic import BMP, GIF, JPEG, PNG, WEBP
from kcnn.data.input_pipeline.png_chunks import begins_with_header


def stored_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Return the number of pixels that a file states in its headers, int64 scalar; -1 for an unknown format.

    An animation counts one frame, and what it reaches past the canvas. But a GIF's frames count a third each on top,
    as in `headers`. A file that passes a limit of `limits` has `ENDLESS` pixels.

    Args:
        encoded: scalar string, an image file's bytes.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for a JPEG without a whole header.
    """

    def jpeg() -> tf.Tensor:
        pixels = tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64))

        def passes_limit(scans: tf.Tensor) -> tf.Tensor:
            return (scans > MAX_SCANS) | (scans * pixels > MAX_SCANNED_PIXELS)

        # What begins a scan may also stand in a thumbnail or behind the end: seldom so often that it must be followed.
        pieces = tf.raw_ops.StringSplitV2(input=encoded[None], sep=b"\xff\xda", maxsplit=MAX_SCANS + 1).values
        at_most = tf.size(pieces, tf.int64) - 1
        refused = tf.cond(passes_limit(at_most), lambda: passes_limit(count_scans(encoded)), lambda: False)
        return tf.where(refused, ENDLESS, pixels)

    return tf.cond(starts_with(encoded, JPEG), jpeg, lambda: _stored_pixels(encoded))


@not_inlined
def _stored_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Return the pixels of a file that is no JPEG, int64 scalar."""

    def product(sides: tf.Tensor) -> tf.Tensor:
        return tf.reduce_prod(tf.abs(tf.cast(sides, tf.int64)))

    def webp() -> tf.Tensor:
        extended = read_integers(encoded, 12, 1, tf.int32)[0] == chunk_code(b"VP8X")
        canvas = 1 + read_uint24_pair(encoded, 24)
        frame, animated, start = find_webp_bitstream(encoded)
        lossy = read_integers(encoded, start + 14, 2, tf.uint16) & 0x3FFF
        bits = read_integers(encoded, start + 9, 1, tf.int32)[0]
        lossless = 1 + tf.stack([tf.bitwise.right_shift(bits, 14) & 0x3FFF, bits & 0x3FFF])
        is_lossless = read_integers(encoded, start, 1, tf.int32)[0] == chunk_code(b"VP8L")
        canvas = tf.where(extended, canvas, 0)
        sides = tf.where(is_lossless, lossless, lossy[::-1])
        # Where a frame reaches past the canvas, the decoded image is as large.
        reached = tf.maximum(canvas, 2 * read_uint24_pair(encoded, frame + 8) + sides)
        return tf.maximum(product(canvas), product(tf.where(animated, reached, sides)))

    def gif() -> tf.Tensor:
        reached, frames = gif_frames(encoded)
        return product(tf.maximum(read_integers(encoded, 6, 2, tf.uint16), reached)) + frames // 3

    def png() -> tf.Tensor:
        sides = product(read_integers(encoded, 16, 2, tf.int32, little=False))
        return tf.where(begins_with_header(encoded), sides, 0)

    sizes = [
        (starts_with(encoded, PNG), png),
        (starts_with(encoded, GIF), gif),
        (starts_with(encoded, BMP), lambda: product(read_integers(encoded, 18, 2, tf.int32))),
        (starts_with(encoded, WEBP), webp),
    ]
    return tf.case(sizes, default=lambda: tf.constant(-1, tf.int64))
