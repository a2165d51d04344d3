"""The blocks of a GIF in the TensorFlow graph: its frames, counted and found."""

import tensorflow as tf

from kcnn.data.input_pipeline.containers import NOWHERE, not_inlined, read_integers
from kcnn.data.input_pipeline.limits import ENDLESS, MAX_GIF_BLOCKS, RUN

_FRAME, _EXTENSION, _FULL = 0x2C, 0x21, 255


def colour_table_size(flags: tf.Tensor) -> tf.Tensor:
    """Return the bytes of a GIF's colour table by the flags before it, int32; 0 where there is none."""
    return tf.where(flags & 0x80 != 0, 3 * tf.bitwise.left_shift(2, flags & 7), 0)


@not_inlined
def find_gif_frame(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the positions where the first frame of a GIF begins and where its data end, int32 scalars."""
    return _walk_gif(encoded, 1)[:2]


@not_inlined
def gif_frames(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return how far the first frame of a GIF reaches, and the pixels of all.

    Returns:
        the right and the lower edge of the first frame, int32 [2], 0 where there is none; and the pixels, int64 scalar,
        ENDLESS where more than `MAX_GIF_BLOCKS` blocks count.
    """
    first, _, pixels = _walk_gif(encoded, NOWHERE)
    edges = tf.reduce_sum(tf.reshape(read_integers(encoded, first + 1, 4, tf.uint16), [2, 2]), axis=0)
    exists = read_integers(encoded, first, 1, tf.uint8)[0] == _FRAME
    return tf.where(exists, edges, 0), pixels


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
        heads = tf.gather(content, tf.minimum(position + 256 * tf.range(RUN), length))
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
