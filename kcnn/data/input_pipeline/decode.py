"""Decoding in the TensorFlow graph alone: one function for training, evaluation and the exported model.

The format is decided by the file's first bytes, whatever its name says. Everything becomes 8-bit RGB: grey and palette
images are expanded, CMYK is converted, what is transparent is shown on white, 16-bit samples keep their high byte,
animations keep their first frame. EXIF orientation is honoured in JPEG, PNG and WebP.

TensorFlow's own `decode_image` does most of this. What it gets wrong is done here: it drops alpha and shows what was
hidden, it makes a GIF as large as its largest frame and leaves black what no frame covers, it misreads BMP with a
palette, it refuses WebP that is animated or has alpha, and its `decode_webp(channels=0)` corrupts memory when it is
given an animation (TensorFlow 2.21).
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from kcnn.data.input_pipeline.containers import (
    chunk_code,
    contains,
    find_riff_chunk,
    find_webp_bitstream,
    not_inlined,
    read_bytes,
    read_integers,
    read_uint24_pair,
    starts_with,
    write_bytes,
)
from kcnn.data.input_pipeline.exif import REVERSED, TRANSPOSED, apply_orientation, exif_orientation
from kcnn.data.input_pipeline.gif_blocks import colour_table_size, find_gif_frame
from kcnn.data.input_pipeline.magic import BMP, GIF, JPEG, PNG, WEBP
from kcnn.data.input_pipeline.png_chunks import needed_chunks

_STRIP_PIXELS = 2**20


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
        (starts_with(encoded, PNG), functools.partial(_decode_png, encoded)),
        *more,
        (starts_with(encoded, GIF), functools.partial(_decode_gif, encoded)),
        (starts_with(encoded, BMP) & has_palette, functools.partial(_decode_bmp_with_palette, encoded)),
        (starts_with(encoded, BMP), functools.partial(_decode_bmp, encoded)),
    ]
    # TensorFlow's decoder would know more formats than there are limits for: of nothing it makes an error.
    others = functools.partial(tf.io.decode_png, b"", channels=3)
    return apply_orientation(tf.case(decoders, default=others), exif_orientation(encoded))


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # As Pillow decodes. TensorFlow's default is the fast inverse DCT, which is no faster on processors with SIMD.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_jpeg_window(encoded: tf.Tensor, begin: tf.Tensor, size: tf.Tensor, ratio: int) -> tf.Tensor:
    window = tf.concat([(begin + ratio // 2) // ratio, size // ratio], axis=0)
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


def _show_on_white(image: tf.Tensor) -> tf.Tensor:
    """Return uint8 [H, W, 3] of RGBA, uint8 [H, W, 4]: each sample between white and itself, rounded as Pillow does.

    Strips of rows keep the memory small: the numbers in between take five times as much as the image.
    """
    height, width = tf.unstack(tf.shape(image)[:2])
    rows = tf.maximum(_STRIP_PIXELS // tf.maximum(width, 1), 1)

    def step(start: tf.Tensor, strips: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        strip = image[start : start + rows]
        distance, alpha = (tf.cast(part, tf.float32) for part in (255 - strip[..., :3], strip[..., 3:]))
        shown = 255 - tf.cast(distance * (alpha / 255) + 0.5, tf.uint8)
        return start + rows, strips.write(start // rows, shown)

    count = -(-height // rows)
    strips = tf.TensorArray(tf.uint8, count, element_shape=[None, None, 3], infer_shape=False)
    _, strips = tf.while_loop(lambda start, _: start < height, step, (0, strips), parallel_iterations=1)
    return strips.concat()


def _place_on_canvas(image: tf.Tensor, begin: tf.Tensor, canvas: tf.Tensor) -> tf.Tensor:
    """Return uint8 [H, W, 3]: a frame that begins at `begin` on a white `canvas` (y and x, int32 [2]), or over it."""
    after = tf.maximum(canvas - begin - tf.shape(image)[:2], 0)
    return tf.pad(image, tf.concat([tf.stack([begin, after], axis=1), [[0, 0]]], axis=0), constant_values=255)


@not_inlined
def _decode_png(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a PNG with an alpha channel, with a palette or a colour that is transparent, or without any of these."""
    channel = read_integers(encoded, 25, 1, tf.uint8)[0] & 4 != 0
    needed = needed_chunks(encoded)
    return tf.cond(
        channel | contains(encoded, "tRNS"),
        lambda: _show_on_white(tf.io.decode_png(needed, channels=4)),
        lambda: tf.io.decode_png(needed, channels=3),
    )


@not_inlined
def _decode_gif(encoded: tf.Tensor) -> tf.Tensor:
    """Decode the first frame of a GIF, and place it on its canvas.

    TensorFlow makes black of what is transparent. To tell it from what is black, the colours are made white, and the
    frame is decoded again.
    """
    frame, end = find_gif_frame(encoded)
    alone = write_bytes(read_bytes(encoded, 0, end) + b";", frame + 1, tf.constant(bytes(4)))  # at the canvas's corner

    def decode(content: tf.Tensor) -> tf.Tensor:
        return tf.io.decode_gif(content)[0]

    def show_on_white() -> tf.Tensor:
        white = alone
        for flags, table in ((10, 13), (frame + 9, frame + 10)):
            size = colour_table_size(read_integers(encoded, flags, 1, tf.uint8)[0])
            white = write_bytes(white, table, tf.strings.substr(b"\xff" * 768, 0, size))
        return 255 - decode(white) + image

    image = decode(alone)
    has_black = tf.reduce_any(tf.reduce_all(image == 0, axis=-1))
    image = tf.cond(has_black, show_on_white, lambda: image)
    begin, canvas = (read_integers(encoded, place, 2, tf.uint16)[::-1] for place in (frame + 1, 6))
    return _place_on_canvas(image, begin, canvas)


@not_inlined
def _decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Decode the first picture alone, without what stands around it: of an animation, the first frame.

    The container: https://developers.google.com/speed/webp/docs/riff_container
    """
    frame, animated, bitstream = find_webp_bitstream(encoded)
    start = find_riff_chunk(encoded, [chunk_code(b"ALPH")], tf.where(animated, frame + 24, 12))
    lossy_alpha = start < bitstream
    start = tf.minimum(start, bitstream)
    size = read_bytes(encoded, tf.where(animated, frame + 14, 24), 6)
    extended = tf.where(lossy_alpha, b"VP8X\x0a\0\0\0\x10\0\0\0" + size, b"")
    # What stood before the picture goes to the end, where it is ignored, so that the size in the header still holds.
    moved = tf.maximum(start - 12 - tf.strings.length(extended), 0)
    simple = read_bytes(encoded, 0, 12) + extended + read_bytes(encoded, start, -1) + read_bytes(encoded, 12, moved)
    lossless = read_integers(encoded, bitstream, 1, tf.int32)[0] == chunk_code(b"VP8L")
    lossless_alpha = lossless & (read_integers(encoded, bitstream + 12, 1, tf.uint8)[0] & 0x10 != 0)
    image = tf.cond(
        lossy_alpha | lossless_alpha,
        lambda: _show_on_white(tf.io.decode_webp(simple, channels=4)[0]),
        lambda: tf.io.decode_webp(simple, channels=3)[0],
    )
    return tf.cond(
        animated,
        lambda: _place_on_canvas(image, 2 * read_uint24_pair(encoded, frame + 8), 1 + read_uint24_pair(encoded, 24)),
        lambda: image,
    )


@not_inlined
def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Decode a BMP of 24 or 32 bits; there is alpha where the header has a mask for it.

    The header: https://learn.microsoft.com/en-us/windows/win32/api/wingdi/ns-wingdi-bitmapv4header
    """
    header_size = read_integers(encoded, 14, 1, tf.int32)[0]
    bits, bitfields = read_integers(encoded, 28, 2, tf.uint16)[0], read_integers(encoded, 30, 1, tf.int32)[0] == 3
    mask = read_integers(encoded, 66, 1, tf.int32)[0]
    return tf.cond(
        (bits == 32) & bitfields & (header_size >= 56) & (mask == -(2**24)),
        lambda: _show_on_white(tf.io.decode_image(encoded, channels=4, expand_animations=False)),
        lambda: tf.io.decode_image(encoded, channels=3, expand_animations=False),
    )


@not_inlined
def _decode_bmp_with_palette(encoded: tf.Tensor) -> tf.Tensor:
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
    palette = read_integers(encoded, 14 + tf.cast(header_size, tf.int32), 1024, tf.uint8)
    palette = tf.cast(tf.reshape(palette, [256, 4])[:, 2::-1], tf.uint8)
    indices_of_byte = tf.range(256, dtype=tf.int64)[:, None] // 2 ** tf.range(8 - bits, -1, -bits) % 2**bits
    colours_of_byte = tf.gather(palette, indices_of_byte)  # so that memory holds a number a byte, not a pixel
    raw = tf.cond(height > 0, lambda: tf.reverse(raw, [0]), lambda: raw)
    return tf.reshape(tf.gather(colours_of_byte, tf.cast(raw, tf.int32)), [rows, -1, 3])[:, :width]
