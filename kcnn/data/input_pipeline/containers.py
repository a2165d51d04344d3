"""Reading of image files' containers in the TensorFlow graph: bytes, integers, segments and chunks.

Nothing is decoded here. Positions may lie anywhere: what stands past the end of a file reads as zeros.
"""

from collections.abc import Callable

import tensorflow as tf

from kcnn.data.input_pipeline.limits import MAX_SEGMENTS

NOWHERE = 2**30  # a position past the end of any file

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
    return tf.where(found, position, NOWHERE)


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
