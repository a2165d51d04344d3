"""Decoding in the TensorFlow graph alone: one function for training, evaluation and the exported model.

The format is decided by the file's first bytes, whatever its name says. Everything arrives as 8-bit RGB: grey and palette
images are expanded, CMYK is converted, alpha is dropped, 16-bit samples keep their high byte, animations their first frame.
EXIF orientation is honoured in JPEG, PNG and WebP.

TensorFlow's own `decode_image` does nearly all of this; what it gets wrong is done here. It misreads BMP with a palette, and
refuses WebP with alpha and animated WebP (of which `decode_webp(channels=0)` even corrupts memory in 2.21).
"""

from collections.abc import Callable

import tensorflow as tf

_MAX_SEGMENTS = 4096  # a file with more is damaged, or made to keep a server busy
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"
_EXIF = b"Exif\0\0"
# Orientation → how the stored image becomes upright: transposed first, then reversed along (rows, columns). EXIF 2.32, 4.6.4.
_TRANSPOSED = (False, False, False, False, False, True, True, True, True)
_REVERSED = (
    (False, False),
    (False, False),
    (False, True),
    (True, True),
    (True, False),
    (False, False),
    (False, True),
    (True, True),
    (True, False),
)


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """The upright image in a file's bytes.

    Args:
        encoded: scalar string; JPEG, PNG, GIF, BMP or WebP.

    Returns:
        uint8 [H, W, 3], RGB.

    Raises:
        tf.errors.InvalidArgumentError: damaged, truncated, or another format; raised when the graph runs.
    """
    decoders: list[Callable[[tf.Tensor], tf.Tensor]] = [_decode_other, _decode_jpeg, _decode_palette_bmp, _decode_webp]
    return _upright(_switch(_format(encoded), decoders, encoded), exif_orientation(encoded))


def decode_window(
    encoded: tf.Tensor,
    choose: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    image_size: tuple[int, int],
) -> tf.Tensor:
    """A window of `decode_image(encoded)`, of which a JPEG decodes little more than the window.

    A JPEG whose window is at least four times `image_size` is decoded at 1/2, 1/4 or 1/8 (libjpeg's scaled inverse DCT, which
    averages), so that at least twice `image_size` remains for the resampling to come; the window is then rounded to the
    coarser grid.

    Args:
        encoded: scalar string.
        choose: from the upright image's int32 [2] (height, width) to the window's begin and size, int32 [2] each.
        image_size: height and width that the window will be resized to.

    Returns:
        uint8 [h, w, 3], upright.

    Raises:
        tf.errors.InvalidArgumentError: as `decode_image`.
    """

    def jpeg() -> tf.Tensor:
        orientation = exif_orientation(encoded)
        transposed, reverse = tf.gather(_TRANSPOSED, orientation), tf.gather(_REVERSED, orientation)
        stored = tf.io.extract_jpeg_shape(encoded)[:2]
        shape = tf.where(transposed, stored[::-1], stored)
        begin, size = choose(shape)
        shrink = tf.math.count_nonzero(tf.reduce_min(size // image_size) >= [4, 8, 16], dtype=tf.int32)
        begin = tf.where(reverse, shape - begin - size, begin)
        begin, size = (tf.where(transposed, pair[::-1], pair) for pair in (begin, size))

        def at(ratio: int) -> tf.Tensor:
            window = tf.concat([(begin + ratio // 2) // ratio, size // ratio], axis=0)
            return tf.io.decode_and_crop_jpeg(
                encoded, window, channels=3, ratio=ratio, dct_method="INTEGER_ACCURATE"
            )

        return _upright(_switch(shrink, [at] * 4, [1, 2, 4, 8]), orientation)

    def other() -> tf.Tensor:
        image = decode_image(encoded)
        begin, size = choose(tf.shape(image)[:2])
        return tf.slice(image, tf.pad(begin, [[0, 1]]), tf.pad(size, [[0, 1]], constant_values=3))

    return tf.ensure_shape(tf.cond(_starts(encoded, _JPEG), jpeg, other), [None, None, 3])
