"""The rows of a request, each read on its own: a row that cannot be read gets a status, the others get answers."""

from collections.abc import Callable

import tensorflow as tf

from kcnn.data.input_pipeline.containers import starts_with
from kcnn.data.input_pipeline.limits import MAX_PIXELS
from kcnn.data.input_pipeline.magic import JPEG
from kcnn.data.input_pipeline.stored_pixels import stored_pixels
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess

_PARALLEL = 8  # rows: enough to fill the cores, few enough that large photos do not fill the memory
# Bytes that decoding takes: a row that may take more is decoded alone, after the others.
_MOST_BYTES_AT_ONCE = 300_000_000
_JPEG_BYTES, _OTHER_BYTES = 6, 12  # a pixel: progressive coefficients; with alpha, on white, and the window of it
_GOOD, _EMPTY, _FOREIGN, _HUGE, _UNREADABLE, _WAITING = range(6)


def read_images(
    rows: tf.Tensor,
    spec: Preprocessing,
    *,
    encoded: Callable[[tf.Tensor], tf.Tensor] = tf.identity,
    unreadable: str = "a damaged image: it cannot be decoded",
    pixel_limit: int = MAX_PIXELS,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decode and preprocess each row of a request, on the CPU wherever it is called.

    An error of TensorFlow's decoders ends the whole call, except in a data set that ignores errors. That takes a
    millisecond longer per request than a map.

    Args:
        rows: string [N], N ≥ 0.
        spec: how to bring an image to the network.
        encoded: a row → the bytes of an image file, string scalars; an error in it is an error of the row.
        unreadable: the status of rows that give an error.
        pixel_limit: an image that states more pixels is not decoded.

    Returns:
        float32 [N, h, w, 3], RGB in 0-255, zeros where there is a status; and string [N], "" or why there is no image.
    """
    statuses = tf.constant(
        [
            "",
            "empty: there are no bytes",
            "not a JPEG, PNG, GIF, BMP or WebP image",
            f"too large: more than {pixel_limit} pixels, or too many scans or blocks",
            unreadable,
        ]
    )

    def judge(image: tf.Tensor, alone: tf.Tensor) -> tf.Tensor:
        pixels = stored_pixels(image)
        size = pixels * tf.where(starts_with(image, JPEG), tf.constant(_JPEG_BYTES, tf.int64), _OTHER_BYTES)
        status = tf.where((size > _MOST_BYTES_AT_ONCE) & ~alone, _WAITING, _GOOD)
        status = tf.where(pixels > pixel_limit, _HUGE, status)
        return tf.where(pixels < 0, tf.where(tf.strings.length(image) == 0, _EMPTY, _FOREIGN), status)

    def read_waiting(alone: tf.Tensor, codes: tf.Tensor, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Read the rows that wait: those that take much memory again later, one after the other."""

        def read(index: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            image = encoded(row)
            status = judge(image, alone)
            return index, status, tf.cond(status == _GOOD, lambda: preprocess(image, spec), lambda: blank)

        waiting = tf.where(codes == _WAITING)
        dataset = tf.data.Dataset.from_tensor_slices((waiting, tf.gather_nd(rows, waiting)))
        parallel = tf.where(alone, tf.constant(1, tf.int64), _PARALLEL)
        dataset = dataset.map(read, num_parallel_calls=parallel, deterministic=True).ignore_errors()
        # One row more after the others, so that the data set is never empty.
        dataset = dataset.concatenate(tf.data.Dataset.from_tensors((count[None], _GOOD, blank)))
        places, found_codes, found_images = dataset.batch(count + 1).get_single_element()
        codes = tf.where(codes == _WAITING, _UNREADABLE, codes)
        return (
            tf.constant(True),
            tf.tensor_scatter_nd_update(codes, places, found_codes),
            tf.tensor_scatter_nd_update(images, places, found_images),
        )

    with tf.device("/CPU:0"):
        blank = tf.zeros([*spec.image_size, 3])
        count = tf.shape(rows, tf.int64)[0]
        codes = tf.concat([tf.fill([count], _WAITING), [_GOOD]], axis=0)
        _, codes, images = tf.while_loop(
            lambda _, codes, __: tf.reduce_any(codes == _WAITING),
            read_waiting,
            (tf.constant(False), codes, tf.zeros([count + 1, *spec.image_size, 3])),
        )
        return images[:count], tf.gather(statuses, codes[:count])
