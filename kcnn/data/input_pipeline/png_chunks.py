"""The chunks of a PNG in the TensorFlow graph: those that its pixels take.

The decoder (libpng) keeps up to 1,000 texts and profiles, and inflates each to up to 8 MB.
Source: https://www.w3.org/TR/png-3, 5.3 and 5.6
"""

import tensorflow as tf

from kcnn.data.input_pipeline.containers import (
    NOWHERE,
    chunk_code,
    contains,
    not_inlined,
    read_bytes,
    read_integers,
)
from kcnn.data.input_pipeline.limits import MAX_DATA_CHUNKS, MAX_SEGMENTS, RUN

_HEADER = b"\0\0\0\rIHDR"
_END = b"\0\0\0\0IEND\xaeB`\x82"
_DATA, _PALETTE, _TRANSPARENCY = (chunk_code(name, little=False) for name in (b"IDAT", b"PLTE", b"tRNS"))
_PALETTE_BYTES = 768


def begins_with_header(encoded: tf.Tensor) -> tf.Tensor:
    """Return whether the first chunk of a PNG is its header, bool scalar: where its size is read."""
    return read_bytes(encoded, 8, 8) == _HEADER


def needed_chunks(encoded: tf.Tensor) -> tf.Tensor:
    """Return a PNG without the chunks that a decoder would keep; "" without a header in front, or past a limit."""
    kept = contains(encoded, "tEXt|zTXt|iTXt|iCCP|sPLT")
    return tf.cond(
        begins_with_header(encoded), lambda: tf.cond(kept, lambda: _strip(encoded), lambda: encoded), lambda: b""
    )


@not_inlined
def _strip(encoded: tf.Tensor) -> tf.Tensor:
    """Return the header, the palette and its transparency, the compressed data, and an end."""
    length = tf.strings.length(encoded)

    def chunk(position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return a chunk's name, its size, and whether it stands in the file."""
        size, name = tf.unstack(read_integers(encoded, position, 2, tf.int32, little=False))
        return name, 12 + size, (size >= 0) & (size < length - position)

    def before_data(_: tf.Tensor, position: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        name, size, whole = chunk(position)
        taken = ((name == _PALETTE) | (name == _TRANSPARENCY)) & (size <= 12 + _PALETTE_BYTES)
        kept += read_bytes(encoded, position, tf.where(taken, size, 0))
        going_on = whole & (name != _DATA)
        return going_on, tf.where(going_on, position + size, position), kept

    going_on, start, kept = tf.while_loop(
        lambda going_on, *_: going_on,
        before_data,
        (tf.constant(True), tf.constant(33), tf.constant("")),
        maximum_iterations=MAX_SEGMENTS,
    )
    content = tf.concat([tf.io.decode_raw(encoded, tf.uint8), tf.zeros([8], tf.uint8)], axis=0)

    def data(_: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pass the chunks of data of the same size that stand in a row."""
        name, size, whole = chunk(position)
        places = tf.cast(position, tf.int64) + tf.cast(size, tf.int64) * tf.range(RUN, dtype=tf.int64)
        places = tf.cast(tf.minimum(places, tf.cast(length, tf.int64)), tf.int32)  # zeros stand there
        heads = tf.gather(content, places[:, None] + tf.range(8))
        same = tf.reduce_all(heads == heads[0], axis=1)
        count = tf.cast(tf.argmin(tf.concat([tf.cast(same, tf.int32), [0]], axis=0)), tf.int32)
        going_on = whole & (name == _DATA)
        return going_on, tf.where(going_on, places[count - 1] + size, position)

    more, end = tf.while_loop(
        lambda more, _: more,
        data,
        (~going_on, start),
        maximum_iterations=MAX_SEGMENTS + MAX_DATA_CHUNKS // RUN,
    )
    end = tf.where(going_on | more, NOWHERE, end)
    found = read_bytes(encoded, 0, 33) + kept + read_bytes(encoded, start, end - start) + _END
    return tf.where(going_on | more, b"", found)
