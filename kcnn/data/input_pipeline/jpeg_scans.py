"""The scans of a JPEG in the TensorFlow graph."""

import tensorflow as tf

from kcnn.data.input_pipeline.containers import not_inlined, read_integers
from kcnn.data.input_pipeline.limits import ENDLESS, MAX_SCANS, MAX_SEGMENTS

_END, _SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = [0xD8, 0xD9, 0xDE, 0xDF, *range(0xF0, 0xFE)]  # the decoder refuses them, or stops


@not_inlined
def count_scans(encoded: tf.Tensor) -> tf.Tensor:
    """Return the number of scans of a JPEG, int64 scalar; ENDLESS where it passes a limit.

    As the decoder does, it passes over what stands between segments, and stops at the end of the image. The decoder
    refuses markers below 0xC0, or passes over them where it looks for a restart.

    Source: ITU-T T.81, B.1.1
    """
    content = tf.io.decode_raw(encoded, tf.uint8)
    marker, length = content[1:], tf.strings.length(encoded)
    known = (marker >= 0xC0) & (marker < 0xFF) & ((marker < 0xD0) | (marker > 0xD7))
    places = tf.cast(tf.where((content[:-1] == 0xFF) & known)[:, 0], tf.int32) + 1
    places = tf.concat([places, length[None]], axis=0)  # zeros stand there

    def step(_: tf.Tensor, position: tf.Tensor, scans: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        place = places[tf.searchsorted(places, position[None])[0]]
        code, high, low = tf.unstack(read_integers(encoded, place, 3, tf.uint8))
        size = tf.where(tf.reduce_any(code == _WITHOUT_LENGTH), 0, 256 * high + low)
        ended = (code == _END) | (place == length)
        return ended, tf.minimum(place + 1 + size, length), scans + tf.cast(code == _SCAN, tf.int64)

    ended, _, scans = tf.while_loop(
        lambda ended, _, scans: ~ended & (scans <= MAX_SCANS),
        step,
        (tf.constant(False), tf.constant(2), tf.constant(0, tf.int64)),
        maximum_iterations=2 * MAX_SEGMENTS,
    )
    return tf.where(ended, scans, ENDLESS)
