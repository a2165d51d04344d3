"""Decoding in the TensorFlow graph alone: one function for training, evaluation and the exported model.

The format is decided by the file's first bytes, whatever its name says. Everything arrives as 8-bit RGB: grey and
palette images are expanded, CMYK is converted, alpha is dropped, 16-bit samples keep their high byte, animations their
first frame. EXIF orientation is honoured in JPEG, PNG and WebP.

TensorFlow's own `decode_image` does most of this. What it gets wrong is done here: it misreads BMP with a palette,
refuses WebP that is animated or has alpha, and its `decode_webp(channels=0)` corrupts memory when given an animation
(TensorFlow 2.21).
"""

import functools
from collections.abc import Callable

import tensorflow as tf

_JPEG, _PNG, _WEBP, _BMP, _GIF = b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"GIF8"
_MAX_SEGMENTS = 4096  # a file with more was made to keep a server busy
_MAX_GIF_STEPS = 50_000  # likewise; each past a block of data, or all the full ones in a row that it finds
_FULL_BLOCKS = 1024  # at most
_ENDLESS = 2**62  # what no limit allows
# Orientation → how the stored image becomes upright: transposed first, then reversed along (rows, columns).
# Exif 2.32, section 4.6.5, tag 0x0112.
_TRANSPOSED = (False, False, False, False, False, True, True, True, True)
_REVERSED = tuple((i in (3, 4, 7, 8), i in (2, 3, 6, 7)) for i in range(9))
_ORIENTATION_TAG = 0x0112
_LONG = 4
# For what is seldom needed: TensorFlow spends time on every node of a branch that is not taken, so such a branch is one
# node, the call of a function that is not inlined. It makes decoding a photo 10% faster.
_apart = tf.function(
    input_signature=[tf.TensorSpec([], tf.string)], autograph=False, experimental_attributes={"_noinline": True}
)


def decode_image(encoded: tf.Tensor, webp: bool = True) -> tf.Tensor:
    """The upright image in a file's bytes.

    Args:
        encoded: scalar string; JPEG, PNG, GIF, BMP or WebP.
        webp: whether to know WebP, for which TensorFlow 2.16, TFX 1.16's, has no op.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for a damaged or truncated file or another format.
    """
    return _decode_any(encoded) if webp else _decode_all_but_webp(encoded)


@_apart
def _decode_any(encoded: tf.Tensor) -> tf.Tensor:
    return _decode(encoded, (_starts(encoded, _WEBP), functools.partial(_decode_webp, encoded)))


@_apart
def _decode_all_but_webp(encoded: tf.Tensor) -> tf.Tensor:
    return _decode(encoded)


def _decode(encoded: tf.Tensor, *more: tuple[tf.Tensor, Callable[[], tf.Tensor]]) -> tf.Tensor:
    decoders = [
        (_starts(encoded, _JPEG), functools.partial(_decode_jpeg, encoded)),
        *more,
        (_starts(encoded, _BMP) & (_read(encoded, 28, 1, tf.uint16)[0] <= 8), functools.partial(_decode_bmp, encoded)),
    ]
    others = functools.partial(tf.io.decode_image, encoded, channels=3, expand_animations=False)
    return _upright(tf.case(decoders, default=others), exif_orientation(encoded))


def decode_window(
    encoded: tf.Tensor,
    choose: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    image_size: tuple[int, int],
    webp: bool = True,
) -> tf.Tensor:
    """A window of the upright image; of a JPEG, little more than the window is decoded.

    A large window of a JPEG is decoded at 1/2, 1/4 or 1/8 (see `halvings`; libjpeg's scaled inverse DCT averages); its
    edges are then rounded to the coarser grid.

    Args:
        encoded: scalar string.
        choose: from the upright image's shape, int32 [2], to the window's begin and size within it, int32 [2] each.
        image_size: height and width that the window is going to be resized to.
        webp: as in `decode_image`.

    Returns:
        uint8 [h, w, 3].

    Raises:
        tf.errors.InvalidArgumentError: as `decode_image`; but damage outside the window may go unseen.
    """

    def jpeg() -> tf.Tensor:
        orientation = exif_orientation(encoded)
        transposed = tf.gather(_TRANSPOSED, orientation)

        def exchange(pair: tf.Tensor) -> tf.Tensor:
            return tf.where(transposed, pair[::-1], pair)

        shape = exchange(tf.io.extract_jpeg_shape(encoded)[:2])
        begin, size = choose(shape)
        begin = tf.where(tf.gather(_REVERSED, orientation), shape - begin - size, begin)
        times = halvings(size, image_size)
        begin, size = exchange(begin), exchange(size)
        reduced = [functools.partial(_decode_jpeg_window, encoded, begin, size, ratio) for ratio in (1, 2, 4, 8)]
        return _upright(tf.switch_case(times, reduced), orientation)

    def others() -> tf.Tensor:
        image = decode_image(encoded, webp)
        begin, size = choose(tf.shape(image)[:2])
        return tf.slice(image, tf.concat([begin, [0]], 0), tf.concat([size, [3]], 0))

    return tf.ensure_shape(tf.cond(_starts(encoded, _JPEG), jpeg, others), [None, None, 3])


def stored_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """How many pixels a file says it holds, int64 scalar; -1 for an unknown format.

    Of an animation a frame's; but a GIF's frames count as a third each, as they are all held with a byte a pixel before
    the first is taken.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for a JPEG without a whole header.
    """

    def jpeg() -> tf.Tensor:
        return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64))

    return tf.cond(_starts(encoded, _JPEG), jpeg, lambda: _stored_pixels(encoded))


@_apart
def _stored_pixels(encoded: tf.Tensor) -> tf.Tensor:
    def product(sides: tf.Tensor) -> tf.Tensor:
        return tf.reduce_prod(tf.abs(tf.cast(sides, tf.int64)))

    def webp() -> tf.Tensor:
        extended = _read(encoded, 12, 1, tf.int32)[0] == _code(b"VP8X")
        canvas = 1 + tf.reduce_sum(tf.reshape(_read(encoded, 24, 6, tf.uint8), [2, 3]) * [1, 2**8, 2**16], axis=1)
        _, _, start = _webp_bitstream(encoded)
        lossy = _read(encoded, start + 14, 2, tf.uint16) & 0x3FFF
        bits = _read(encoded, start + 9, 1, tf.int32)[0]
        lossless = 1 + tf.stack([bits & 0x3FFF, tf.bitwise.right_shift(bits, 14) & 0x3FFF])
        is_lossless = _read(encoded, start, 1, tf.int32)[0] == _code(b"VP8L")
        return tf.maximum(tf.where(extended, product(canvas), 0), product(tf.where(is_lossless, lossless, lossy)))

    sizes = [
        (_starts(encoded, _PNG), lambda: product(_read(encoded, 16, 2, tf.int32, little=False))),
        (_starts(encoded, _GIF), lambda: product(_read(encoded, 6, 2, tf.uint16)) + _gif_frames(encoded) // 3),
        (_starts(encoded, _BMP), lambda: product(_read(encoded, 18, 2, tf.int32))),
        (_starts(encoded, _WEBP), webp),
    ]
    return tf.case(sizes, default=lambda: tf.constant(-1, tf.int64))


@_apart
def _gif_frames(encoded: tf.Tensor) -> tf.Tensor:
    """Pixels of all frames, int64. https://www.w3.org/Graphics/GIF/spec-gif89a.txt, 18 to 25."""
    margin = tf.zeros([10], tf.uint8)  # behind the end, so that a descriptor can be read anywhere
    content = tf.concat([tf.io.decode_raw(encoded, tf.uint8), margin], axis=0)
    length = tf.strings.length(encoded)

    def colours(flags: tf.Tensor) -> tf.Tensor:
        return tf.where(flags & 0x80 != 0, 3 * tf.bitwise.left_shift(2, flags & 7), 0)

    def full_blocks(position: tf.Tensor) -> tf.Tensor:
        """How many blocks of 255 bytes there are in a row; nearly all are, and a step for each takes long."""
        heads = tf.gather(content, tf.minimum(position + 256 * tf.range(_FULL_BLOCKS), length))
        return tf.cast(tf.argmin(tf.concat([tf.cast(heads == 255, tf.int32), [0]], axis=0)), tf.int32)

    def step(position: tf.Tensor, inside: tf.Tensor, pixels: tf.Tensor, steps: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Past blocks of data within a frame or an extension, or past the beginning of one of these."""
        found = tf.cast(tf.slice(content, [position], [10]), tf.int32)
        code, (left, right, top, bottom, flags) = found[0], tf.unstack(found[5:])
        begins = tf.cast(~inside & (code == 0x2C), tf.int32)
        size = tf.cast((left + 256 * right) * begins, tf.int64) * tf.cast(top + 256 * bottom, tf.int64)
        known = inside | (code == 0x21) | (code == 0x2C)
        full = full_blocks(position)
        data = tf.where(full > 0, 256 * full, 1 + code)
        skipped = tf.where(inside, data, 2 + begins * (9 + colours(flags)))
        following = tf.where(known, tf.minimum(position + skipped, length), length)
        return following, ~inside | (code != 0), pixels + size, steps + 1

    begin = 13 + colours(_read(encoded, 10, 1, tf.uint8)[0])
    _, _, pixels, steps = tf.while_loop(
        lambda position, *_: position < length,
        step,
        (begin, tf.constant(False), tf.constant(0, tf.int64), tf.constant(0)),
        maximum_iterations=_MAX_GIF_STEPS,
    )
    return tf.where(steps < _MAX_GIF_STEPS, pixels, _ENDLESS)


def halvings(size: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """How often (int32, 0 to 3) a window of `size` (int32 [2]) can be halved with twice `image_size` left to resize."""
    return tf.math.count_nonzero(tf.reduce_min(size // image_size) >= [4, 8, 16], dtype=tf.int32)


def exif_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG, PNG or WebP, int32 scalar from 1 to 8; 1 where there is none or it is malformed.

    As Pillow finds it, but for orientations that stand in XMP or in the text chunks of a PNG alone.
    """

    def gated(letters: str, orientation: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[], tf.Tensor]:
        # Searching all bytes for the letters costs 1% of decoding a photo, following the segments 10%.
        return lambda: tf.cond(_holds(encoded, letters), lambda: orientation(encoded), lambda: 1)

    finders = [
        (_starts(encoded, _JPEG), gated("Exif", _jpeg_orientation)),
        (_starts(encoded, _PNG), gated("eXIf", _png_orientation)),
        (_starts(encoded, _WEBP), gated("EXIF", _webp_orientation)),
    ]
    return tf.case(finders, default=lambda: 1)


def _starts(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def _holds(encoded: tf.Tensor, letters: str) -> tf.Tensor:
    """Whether the letters stand anywhere; of TensorFlow's string ops, replacing the first match finds it fastest."""
    without = tf.strings.regex_replace(encoded, letters, "", replace_global=False)
    return tf.strings.length(without) < tf.strings.length(encoded)


def _substring(encoded: tf.Tensor, position: tf.Tensor | int, size: tf.Tensor | int) -> tf.Tensor:
    """What the file holds of `size` bytes at `position`, wherever that is."""
    return tf.strings.substr(encoded, tf.clip_by_value(position, 0, tf.strings.length(encoded)), size)


def _read(
    encoded: tf.Tensor, position: tf.Tensor | int, count: tf.Tensor | int, dtype: tf.DType, little: bool = True
) -> tf.Tensor:
    """`count` integers at `position`, int32 [count]; zeros past the end of the file."""
    size = count * dtype.size
    raw = _substring(encoded, position, size)
    return tf.cast(tf.io.decode_raw(raw, dtype, little_endian=little, fixed_length=size), tf.int32)


def _code(name: bytes, little: bool = True) -> int:
    """A chunk's four letters as the integer that `_read` makes of them."""
    return int.from_bytes(name, "little" if little else "big")


def _decode_jpeg(encoded: tf.Tensor) -> tf.Tensor:
    # As Pillow decodes, where TensorFlow's default is the fast inverse DCT, which is no faster on processors with SIMD.
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_jpeg_window(encoded: tf.Tensor, begin: tf.Tensor, size: tf.Tensor, ratio: int) -> tf.Tensor:
    window = tf.concat([(begin + ratio // 2) // ratio, size // ratio], axis=0)
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE")


@_apart
def _decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes the first bitstream alone, without its container: an animation's first frame, lossy colour without alpha.

    The container: https://developers.google.com/speed/webp/docs/riff_container
    """
    frame, animated, start = _webp_bitstream(encoded)
    # What stood before the bitstream goes to the end, where it is ignored, so that the size in the header still holds.
    simple = _substring(encoded, 0, 12) + _substring(encoded, start, -1) + _substring(encoded, 12, start - 12)
    lossless = _read(encoded, start, 1, tf.int32)[0] == _code(b"VP8L")
    alpha = lossless & (_read(encoded, start + 12, 1, tf.uint8)[0] & 0x10 != 0)
    image = tf.cond(
        alpha,
        lambda: tf.io.decode_webp(simple, channels=4)[0, :, :, :3],
        lambda: tf.io.decode_webp(simple, channels=3)[0],
    )

    def on_canvas() -> tf.Tensor:
        def pair(position: tf.Tensor | int) -> tf.Tensor:
            """Two 24-bit integers, x before y, as (y, x)."""
            digits = tf.reshape(_read(encoded, position, 6, tf.uint8), [2, 3])
            return tf.reduce_sum(digits * [1, 2**8, 2**16], axis=1)[::-1]

        before = 2 * pair(frame + 8)
        after = 1 + pair(24) - before - tf.shape(image)[:2]
        return tf.pad(image, tf.concat([tf.stack([before, after], axis=1), [[0, 0]]], axis=0))

    return tf.cond(animated, on_canvas, lambda: image)


@_apart
def _decode_bmp(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a BMP of 1, 4 or 8 bits with its palette, uncompressed."""
    header = tf.cast(_read(encoded, 10, 6, tf.int32), tf.int64)
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
    palette = tf.reshape(_read(encoded, 14 + tf.cast(header_size, tf.int32), 1024, tf.uint8), [256, 4])[:, 2::-1]
    image = tf.gather(tf.cast(palette, tf.uint8), indices)
    return tf.cond(height > 0, lambda: image[::-1], lambda: image)


def _walk(start: tf.Tensor | int, step: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """Follows segments from `start`: `step` answers from a position whether to stay there and where the next one is."""

    def body(found: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found, following = step(position)
        return found, tf.where(found, position, following)

    return tf.while_loop(
        lambda found, _: ~found,
        body,
        (tf.constant(False), tf.convert_to_tensor(start)),
        maximum_iterations=_MAX_SEGMENTS,
    )[1]


@_apart
def _jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Of the first EXIF segment before the compressed data."""

    def is_exif(position: tf.Tensor) -> tf.Tensor:
        return _substring(encoded, position + 4, 6) == b"Exif\0\0"

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        marker, length = tf.unstack(_read(encoded, position, 2, tf.uint16, little=False))
        stop = (marker < 0xFFC0) | (marker == 0xFFDA) | ((marker == 0xFFE1) & is_exif(position))
        return stop, position + tf.where(marker == 0xFFFF, 1, 2 + length)  # a marker may be padded with 0xFF

    return _tiff_orientation(encoded, _walk(2, step) + 10)


@_apart
def _png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Of the eXIf chunk, before or after the image."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length, code = tf.unstack(_read(encoded, position, 2, tf.int32, little=False))
        stop = tf.reduce_any(code == [0, _code(b"eXIf", little=False)])
        return stop | (length < 0), position + 12 + length

    return _tiff_orientation(encoded, _walk(8, step) + 8)


def _find_chunk(encoded: tf.Tensor, codes: list[int], start: tf.Tensor | int = 12) -> tf.Tensor:
    """Where the first RIFF chunk of one of these codes is, or a position past the last."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        code, length = tf.unstack(_read(encoded, position, 2, tf.int32))
        return tf.reduce_any(code == [0, *codes]) | (length < 0), position + 8 + length + (length & 1)

    return _walk(start, step)


def _webp_bitstream(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Where the first frame is, whether that is an animation's, and where its pixels are, alone or in it."""
    bitstreams = [_code(b"VP8 "), _code(b"VP8L")]
    frame = _find_chunk(encoded, [*bitstreams, _code(b"ANMF")])
    animated = _read(encoded, frame, 1, tf.int32)[0] == _code(b"ANMF")
    return frame, animated, _find_chunk(encoded, bitstreams, tf.where(animated, frame + 24, frame))


@_apart
def _webp_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """Of the EXIF chunk, which some writers begin as in a JPEG."""
    start = _find_chunk(encoded, [_code(b"EXIF")]) + 8
    return _tiff_orientation(encoded, start + tf.where(_substring(encoded, start, 6) == b"Exif\0\0", 6, 0))


def _tiff_orientation(encoded: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Of the TIFF data at `start`; 1 when there is none."""

    def parse(little: bool) -> tf.Tensor:
        directory = start + _read(encoded, start + 4, 1, tf.int32, little)[0]
        count = _read(encoded, directory, 1, tf.uint16, little)[0]
        # An entry is tag, type, count (two words), value (two words, of which a SHORT fills the first).
        entries = tf.reshape(_read(encoded, directory + 2, 6 * (count + 1), tf.uint16, little), [-1, 6])[:count]
        values = entries[:, 4] if little else tf.where(entries[:, 1] == _LONG, entries[:, 5], entries[:, 4])
        value = tf.concat([values[entries[:, 0] == _ORIENTATION_TAG], [1]], axis=0)[0]
        return tf.where((value >= 1) & (value <= 8), value, 1)

    order = _substring(encoded, start, 4)
    return tf.case(
        [(order == b"II*\0", lambda: parse(little=True)), (order == b"MM\0*", lambda: parse(little=False))],
        default=lambda: 1,
    )


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    def turned() -> tf.Tensor:
        transposed = tf.cond(orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        return tf.raw_ops.Reverse(tensor=transposed, dims=tf.concat([tf.gather(_REVERSED, orientation), [False]], 0))

    image = tf.ensure_shape(image, [None, None, 3])
    return tf.cond(orientation > 1, turned, lambda: image)
