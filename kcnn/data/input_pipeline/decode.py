"""Decoding in the TensorFlow graph alone: one function for training, evaluation and the exported model.

The format is decided by the file's first bytes, whatever its name says. Everything becomes 8-bit RGB: grey and palette
images are expanded, CMYK is converted, alpha is dropped, 16-bit samples keep their high byte, animations keep their
first frame. EXIF orientation is honoured in JPEG, PNG and WebP.

TensorFlow's own `decode_image` does most of this. What it gets wrong is done here: it misreads BMP with a palette,
it refuses WebP that is animated or has alpha, and its `decode_webp(channels=0)` corrupts memory when it is given an
animation (TensorFlow 2.21).
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from kcnn.data.input_pipeline.containers import (
    chunk_code,
    find_webp_bitstream,
    not_inlined,
    read_bytes,
    read_integers,
    read_uint24_pair,
    starts_with,
)
from kcnn.data.input_pipeline.exif import REVERSED, TRANSPOSED, apply_orientation, exif_orientation
from kcnn.data.input_pipeline.magic import BMP, JPEG, WEBP


def decode_image(encoded: tf.Tensor, webp: bool = True) -> tf.Tensor:
    """Decode the upright image in a file's bytes.

    Args:
        encoded: scalar string; JPEG, PNG, GIF, BMP or WebP.
        webp: whether to know WebP, for which TensorFlow 2.16, TFX 1.16's, has no op.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for a damaged or truncated file or another format.
    """
    return _decode_any(encoded) if webp else _decode_all_but_webp(encoded)


def decode_window(
    encoded: tf.Tensor,
    choose: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    image_size: tuple[int, int],
    webp: bool = True,
) -> tf.Tensor:
    """Decode a window of the upright image; of a JPEG, little more than the window is decoded.

    A large window of a JPEG is decoded at 1/2, 1/4 or 1/8 (see `count_halvings`; libjpeg's scaled inverse DCT
    averages). Its edges are then rounded to the coarser grid.

    Args:
        encoded: scalar string.
        choose: the upright image's shape, int32 [2] → the window's begin and size within it, int32 [2] each.
        image_size: height and width that the window is going to be resized to.
        webp: as in `decode_image`.

    Returns:
        uint8 [h, w, 3].

    Raises:
        tf.errors.InvalidArgumentError: as `decode_image`; but damage outside the window may go unnoticed.
    """

    def jpeg() -> tf.Tensor:
        orientation = exif_orientation(encoded)
        transposed = tf.gather(TRANSPOSED, orientation)

        def exchange(pair: tf.Tensor) -> tf.Tensor:
            return tf.where(transposed, pair[::-1], pair)

        shape = exchange(tf.io.extract_jpeg_shape(encoded)[:2])
        begin, size = choose(shape)
        begin = tf.where(tf.gather(REVERSED, orientation), shape - begin - size, begin)
        times = count_halvings(size, image_size)
        begin, size = exchange(begin), exchange(size)
        reduced = [functools.partial(_decode_jpeg_window, encoded, begin, size, ratio) for ratio in (1, 2, 4, 8)]
        return apply_orientation(tf.switch_case(times, reduced), orientation)

    def others() -> tf.Tensor:
        image = decode_image(encoded, webp)
        begin, size = choose(tf.shape(image)[:2])
        return tf.slice(image, tf.concat([begin, [0]], 0), tf.concat([size, [3]], 0))

    return tf.ensure_shape(tf.cond(starts_with(encoded, JPEG), jpeg, others), [None, None, 3])


def count_halvings(size: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """Return how often a window (int32 [2]) can be halved with twice `image_size` left, int32 scalar from 0 to 3."""
    return tf.math.count_nonzero(tf.reduce_min(size // image_size) >= [4, 8, 16], dtype=tf.int32)


@not_inlined
def _decode_any(encoded: tf.Tensor) -> tf.Tensor:
    return _decode(encoded, (starts_with(encoded, WEBP), functools.partial(_decode_webp, encoded)))


@not_inlined
def _decode_all_but_webp(encoded: tf.Tensor) -> tf.Tensor:
    return _decode(encoded)


def _decode(encoded: tf.Tensor, *more: tuple[tf.Tensor, Callable[[], tf.Tensor]]) -> tf.Tensor:
    has_palette = read_integers(encoded, 28, 1, tf.uint16)[0] <= 8
    decoders = [
        (starts_with(encoded, JPEG), functools.partial(_decode_jpeg, encoded)),
        *more,
        (starts_with(encoded, BMP) & has_palette, functools.partial(_decode_bmp, encoded)),
    ]
    others = functools.partial(tf.io.decode_image, encoded, channels=3, expand_animations=False)
    return apply_orientation(tf.case(decoders, default=others), exif_orientation(encoded))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # As Pillow decodes. TensorFlow's default is the fast inverse DCT, which is no faster on processors with SIMD.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_jpeg_window(encoded: tf.Tensor, begin: tf.Tensor, size: tf.Tensor, ratio: int) -> tf.Tensor:
    window = tf.concat([(begin + ratio // 2) // ratio, size // ratio], axis=0)
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


@not_inlined
def _decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Decode the first bitstream alone, without its container: an animation's first frame, lossy colour without alpha.

    The container: https://developers.google.com/speed/webp/docs/riff_container
    """
    frame, animated, start = find_webp_bitstream(encoded)
    # What stood before the bitstream goes to the end, where it is ignored, so that the size in the header still holds.
    simple = read_bytes(encoded, 0, 12) + read_bytes(encoded, start, -1) + read_bytes(encoded, 12, start - 12)
    lossless = read_integers(encoded, start, 1, tf.int32)[0] == chunk_code(b"VP8L")
    alpha = lossless & (read_integers(encoded, start + 12, 1, tf.uint8)[0] & 0x10 != 0)
    image = tf.cond(
        alpha,
        lambda: tf.io.decode_webp(simple, channels=4)[0, :, :, :3],
        lambda: tf.io.decode_webp(simple, channels=3)[0],
    )

    def on_canvas() -> tf.Tensor:
        before = 2 * read_uint24_pair(encoded, frame + 8)
        after = 1 + read_uint24_pair(encoded, 24) - before - tf.shape(image)[:2]
        return tf.pad(image, tf.concat([tf.stack([before, after], axis=1), [[0, 0]]], axis=0))

    return tf.cond(animated, on_canvas, lambda: image)


@not_inlined
def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Decode an uncompressed BMP of 1, 4 or 8 bits with its palette."""
    header = tf.cast(read_integers(encoded, 10, 6, tf.int32), tf.int64)
    offset, header_size, width, height, planes_and_bits, compression = tf.unstack(header)
    bits, rows = tf.clip_by_value(planes_and_bits // 2**16, 1, 8), tf.abs(height)
    stride = (width * bits + 31) // 32 * 4
    fits = (offset > 0) & (offset + stride * rows <= tf.cast(tf.strings.length(encoded), tf.int64))
    known = tf.reduce_any(bits == [1, 4, 8]) & (header_size >= 40) & (compression == 0)
    whole = tf.debugging.Assert(fits & known & (width > 0) & (rows > 0), ["damaged or unsupported BMP"])
    with tf.control_dependencies([whole] if whole is not None else []):
        raw = tf.reshape(tf.io.decode_raw(tf.strings.substr(encoded, offset, stride * rows), tf.uint8), [rows, stride])
    pixels_of_byte = tf.cast(raw, tf.int64)[:, :, None] // 2 ** tf.range(8 - bits, -1, -bits)
    indices = tf.reshape(pixels_of_byte % 2**bits, [rows, -1])[:, :width]
    palette = read_integers(encoded, 14 + tf.cast(header_size, tf.int32), 1024, tf.uint8)
    palette = tf.reshape(palette, [256, 4])[:, 2::-1]
    image = tf.gather(tf.cast(palette, tf.uint8), indices)
    return tf.cond(height > 0, lambda: image[::-1], lambda: image)
