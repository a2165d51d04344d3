"""Reading of image files' containers in the TensorFlow graph: chunks, segments, blocks, and the pixels that they state.

Nothing is decoded here. Positions may lie anywhere: what stands past the end of a file reads as zeros.
"""

from collections.abc import Callable

import tensorflow as tf

from kcnn.data.input_pipeline.limits import ENDLESS, GIF_FULL_BLOCKS, MAX_GIF_BLOCKS, MAX_SEGMENTS
from kcnn.data.input_pipeline.magic import BMP, GIF, JPEG, PNG, WEBP

_FRAME, _EXTENSION, _FULL = 0x2C, 0x21, 255
_NOWHERE = 2**30  # a position past the end of any file

# Makes a seldom branch one node, the call of a function that is not inlined: TensorFlow spends time on every node of a
# branch that is not taken. This makes decoding a photo 10% faster.
not_inlined = tf.function(
    input_signature=[tf.TensorSpec([], tf.string)], autograph=False, experimental_attributes={"_noinline": True}
)


def starts_with(encoded: tf.Tensor, magic: bytes) -> tf.Tensor:
    """Return whether a file (string scalar) starts with these bytes, bool scalar."""
    return tf.strings.substr(encoded, 0, len(magic)) == magic


def contains(encoded: tf.Tensor, letters: str) -> tf.Tensor:
    """Return whether the letters stand anywhere; of TensorFlow's string ops, replacing the first match is fastest."""
    without = tf.strings.regex_replace(encoded, letters, "", replace_global=False)
    return tf.strings.length(without) < tf.strings.length(encoded)


def read_bytes(encoded: tf.Tensor, position: tf.Tensor | int, size: tf.Tensor | int) -> tf.Tensor:
    """Return `size` bytes from `position`, fewer at the end of the file, string scalar; a `size` of -1 takes all."""
    return tf.strings.substr(encoded, tf.clip_by_value(position, 0, tf.strings.length(encoded)), size)


def write_bytes(encoded: tf.Tensor, position: tf.Tensor | int, content: tf.Tensor) -> tf.Tensor:
    """Return the file with `content` (string scalar) in the place of as many bytes at `position`."""
    return read_bytes(encoded, 0, position) + content + read_bytes(encoded, position + tf.strings.length(content), -1)


def read_integers(
    encoded: tf.Tensor, position: tf.Tensor | int, count: tf.Tensor | int, dtype: tf.DType, little: bool = True
) -> tf.Tensor:
    """Return `count` integers of `dtype` at `position`, int32 [count]; zeros past the end of the file."""
    size = count * dtype.size
    raw = read_bytes(encoded, position, size)
    return tf.cast(tf.io.decode_raw(raw, dtype, little_endian=little, fixed_length=size), tf.int32)


def chunk_code(name: bytes, little: bool = True) -> int:
    """Return a chunk's four letters as the integer that `read_integers` makes of them."""
    return int.from_bytes(name, "little" if little else "big")


def walk_segments(start: tf.Tensor | int, step: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """Follow segments and return the position where the walk stops, int32 scalar.

    Args:
        start: position of the first segment.
        step: position → whether to stop there, and the position of the next segment.

    Returns:
        The position where `step` stopped; one past the end of any file where it did not within `MAX_SEGMENTS` segments.
    """

    def body(found: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        found, following = step(position)
        return found, tf.where(found, position, following)

    found, position = tf.while_loop(
        lambda found, _: ~found,
        body,
        (tf.constant(False), tf.convert_to_tensor(start)),
        maximum_iterations=MAX_SEGMENTS,
    )
    return tf.where(found, position, _NOWHERE)


def find_riff_chunk(encoded: tf.Tensor, codes: list[int], start: tf.Tensor | int = 12) -> tf.Tensor:
    """Return the position of the first RIFF chunk with one of these codes, or a position past the last chunk."""

    def step(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        code, length = tf.unstack(read_integers(encoded, position, 2, tf.int32))
        return tf.reduce_any(code == [0, *codes]) | (length < 0), position + 8 + length + (length & 1)

    return walk_segments(start, step)


def find_webp_bitstream(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Find the first picture of a WebP file.

    Source: https://developers.google.com/speed/webp/docs/riff_container

    Returns:
        the position of the first frame, whether the frame belongs to an animation, and the position of its bitstream.
    """
    bitstreams = [chunk_code(b"VP8 "), chunk_code(b"VP8L")]
    frame = find_riff_chunk(encoded, [*bitstreams, chunk_code(b"ANMF")])
    animated = read_integers(encoded, frame, 1, tf.int32)[0] == chunk_code(b"ANMF")
    return frame, animated, find_riff_chunk(encoded, bitstreams, tf.where(animated, frame + 24, frame))


def read_uint24_pair(encoded: tf.Tensor, position: tf.Tensor | int) -> tf.Tensor:
    """Return two 24-bit integers, stored x before y, as (y, x), int32 [2]."""
    digits = tf.reshape(read_integers(encoded, position, 6, tf.uint8), [2, 3])
    return tf.reduce_sum(digits * [1, 2**8, 2**16], axis=1)[::-1]


def stored_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Return the number of pixels that a file states in its headers, int64 scalar; -1 for an unknown format.

    An animation counts one frame. But a GIF's frames count a third each on top, as in `headers`. A file that passes a
    limit of `limits` has `ENDLESS` pixels.

    Args:
        encoded: scalar string, an image file's bytes.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for a JPEG without a whole header.
    """

    def jpeg() -> tf.Tensor:
        return tf.reduce_prod(tf.cast(tf.io.extract_jpeg_shape(encoded)[:2], tf.int64))

    return tf.cond(starts_with(encoded, JPEG), jpeg, lambda: _stored_pixels(encoded))


@not_inlined
def _stored_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Return the pixels of a file that is no JPEG, int64 scalar."""

    def product(sides: tf.Tensor) -> tf.Tensor:
        return tf.reduce_prod(tf.abs(tf.cast(sides, tf.int64)))

    def webp() -> tf.Tensor:
        extended = read_integers(encoded, 12, 1, tf.int32)[0] == chunk_code(b"VP8X")
        canvas = 1 + read_uint24_pair(encoded, 24)
        _, _, start = find_webp_bitstream(encoded)
        lossy = read_integers(encoded, start + 14, 2, tf.uint16) & 0x3FFF
        bits = read_integers(encoded, start + 9, 1, tf.int32)[0]
        lossless = 1 + tf.stack([bits & 0x3FFF, tf.bitwise.right_shift(bits, 14) & 0x3FFF])
        is_lossless = read_integers(encoded, start, 1, tf.int32)[0] == chunk_code(b"VP8L")
        return tf.maximum(tf.where(extended, product(canvas), 0), product(tf.where(is_lossless, lossless, lossy)))

    def gif() -> tf.Tensor:
        return product(read_integers(encoded, 6, 2, tf.uint16)) + _gif_frame_pixels(encoded) // 3

    sizes = [
        (starts_with(encoded, PNG), lambda: product(read_integers(encoded, 16, 2, tf.int32, little=False))),
        (starts_with(encoded, GIF), gif),
        (starts_with(encoded, BMP), lambda: product(read_integers(encoded, 18, 2, tf.int32))),
        (starts_with(encoded, WEBP), webp),
    ]
    return tf.case(sizes, default=lambda: tf.constant(-1, tf.int64))


def colour_table_size(flags: tf.Tensor) -> tf.Tensor:
    """Return the bytes of a GIF's colour table by the flags before it, int32; 0 where there is none."""
    return tf.where(flags & 0x80 != 0, 3 * tf.bitwise.left_shift(2, flags & 7), 0)


@not_inlined
def find_gif_frame(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the positions where the first frame of a GIF begins and where its data end, int32 scalars."""
    return _walk_gif(encoded, 1)[:2]


@not_inlined
def _gif_frame_pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Return the pixels of all frames of a GIF, int64 scalar; ENDLESS where more than `MAX_GIF_BLOCKS` blocks count."""
    return _walk_gif(encoded, _NOWHERE)[2]


def _walk_gif(encoded: tf.Tensor, most_frames: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Walk through the blocks of a GIF to the end of so many frames, or to the end of the file.

    Source: https://www.w3.org/Graphics/GIF/spec-gif89a.txt, sections 18 to 25

    Returns:
        the position of the first frame, int32; the position where the walk ends, int32; and the pixels of the frames,
        int64, ENDLESS past more than `MAX_GIF_BLOCKS` counted blocks.
    """
    margin = tf.zeros([10], tf.uint8)  # after the end, so that a descriptor can be read anywhere
    content = tf.concat([tf.io.decode_raw(encoded, tf.uint8), margin], axis=0)
    length = tf.strings.length(encoded)

    def full_blocks(position: tf.Tensor) -> tf.Tensor:
        """Return how many full blocks stand in a row, int32; nearly all are full, and a step for each takes long."""
        heads = tf.gather(content, tf.minimum(position + 256 * tf.range(GIF_FULL_BLOCKS), length))
        return tf.cast(tf.argmin(tf.concat([tf.cast(heads == _FULL, tf.int32), [0]], axis=0)), tf.int32)

    def step(
        position: tf.Tensor,
        inside: tf.Tensor,
        frames: tf.Tensor,
        first: tf.Tensor,
        pixels: tf.Tensor,
        blocks: tf.Tensor,
    ) -> tuple[tf.Tensor, ...]:
        """Pass the beginning of a frame or an extension, or full blocks of its data and the block after them."""
        found = tf.cast(tf.slice(content, [position], [10]), tf.int32)
        code, (left, right, top, bottom, flags) = found[0], tf.unstack(found[5:])
        begins = tf.cast(~inside & (code == _FRAME), tf.int32)
        size = tf.cast((left + 256 * right) * begins, tf.int64) * tf.cast(top + 256 * bottom, tf.int64)
        known = inside | (code == _EXTENSION) | (code == _FRAME)
        full = full_blocks(position)
        after = tf.minimum(position + 256 * full, length)
        last = tf.cast(content[after], tf.int32)
        counted = known & (~inside | ((last < _FULL) & (after < length)))
        data = after + tf.where(last < _FULL, 1 + last, 0)
        following = tf.where(inside, data, position + 2 + begins * (9 + colour_table_size(flags)))
        following = tf.where(known, tf.minimum(following, length), length)
        first = tf.where((frames == 0) & (begins == 1), position, first)
        return (
            following,
            ~inside | (last != 0),
            frames + begins,
            first,
            pixels + size,
            blocks + tf.cast(counted, tf.int32),
        )

    begin = 13 + colour_table_size(read_integers(encoded, 10, 1, tf.uint8)[0])
    position, _, _, first, pixels, blocks = tf.while_loop(
        lambda position, inside, frames, first, pixels, blocks: (
            (position < length) & (blocks <= MAX_GIF_BLOCKS) & (inside | (frames < most_frames))
        ),
        step,
        (begin, tf.constant(False), tf.constant(0), begin, tf.constant(0, tf.int64), tf.constant(0)),
    )
    return first, position, tf.where(blocks <= MAX_GIF_BLOCKS, pixels, ENDLESS)
