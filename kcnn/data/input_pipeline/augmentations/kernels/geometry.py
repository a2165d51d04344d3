"""Geometry: each pixel of the result takes the value of a place in the image, in one pass."""

import math

import tensorflow as tf

FILL = 128.0  # what lies outside of an image, where nothing else is said


def resample(image: tf.Tensor, matrix: tf.Tensor, *, smooth: bool = False) -> tf.Tensor:
    """Return the image whose pixel (x, y) is what `image` has at `matrix @ (x, y, 1)`.

    The centres of pixels are at whole numbers, as for keras-cv; Pillow's are at halves.

    Args:
        image: float32 [h, w, 3].
        matrix: float32 [2, 3].
        smooth: whether to interpolate between four pixels, by the kernel that keras-cv takes, or to take the nearest
            one, which is three times as fast, and what AutoAugment and its kin are defined by.

    Returns:
        float32 [h, w, 3].
    """
    if smooth:
        resampled = tf.raw_ops.ImageProjectiveTransformV3(
            images=image[None],
            transforms=tf.concat([tf.reshape(matrix, [6]), [0.0, 0.0]], axis=0)[None],
            output_shape=tf.shape(image)[:2],
            fill_value=FILL,
            interpolation="BILINEAR",
            fill_mode="CONSTANT",
        )
        return tf.ensure_shape(resampled[0], image.shape)
    x, y = _grid(image)
    from_x, from_y = ((row[1] * y + row[2]) + row[0] * x for row in tf.unstack(matrix))
    return _nearest(image, from_x, from_y)


def bend(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Return an image as through a lens: what is at distance r from the centre comes from `r * (1 + strength * r**2)`.

    A corner's distance is 1 (Brown, "Decentering Distortion of Lenses", 1966, the first radial term).
    """
    x, y = _grid(image)
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    right, down = x - (width - 1) / 2, y - (height - 1) / 2
    farther = strength * (right**2 + down**2) / ((width - 1) ** 2 + (height - 1) ** 2) * 4
    return _bilinear(image, x + right * farther, y + down * farther)


def _grid(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the places of pixels, x float32 [w] and y float32 [h, 1]."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    return tf.range(width), tf.range(height)[:, None]


def _nearest(image: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return the pixels nearest to places, float32 [h, w] each; the fill where these are outside."""
    padded, places = _padded(image), _places(image, tf.round(x), tf.round(y))
    return tf.ensure_shape(tf.gather(padded, places), image.shape)


def _bilinear(image: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return what lies at places, interpolated between four pixels."""
    padded, left, top = _padded(image), tf.floor(x), tf.floor(y)

    def along(row: tf.Tensor) -> tf.Tensor:
        begin, end = (tf.gather(padded, _places(image, left + step, row)) for step in (0, 1))
        return begin + (x - left)[..., None] * (end - begin)

    upper, lower = along(top), along(top + 1)
    return tf.ensure_shape(upper + (y - top)[..., None] * (lower - upper), image.shape)


def _padded(image: tf.Tensor) -> tf.Tensor:
    """Return the pixels, float32 [(h + 2) * (w + 2), 3], of an image with a border of a pixel that holds the fill."""
    return tf.reshape(tf.pad(image, [[1, 1], [1, 1], [0, 0]], constant_values=FILL), [-1, 3])


def _places(image: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Return the numbers of `_padded`'s pixels at whole places, int32; the border's where these are outside."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    x = tf.minimum(tf.maximum(x, -1.0), width)
    y = tf.minimum(tf.maximum(y, -1.0), height)
    return tf.cast((y + 1) * (width + 2) + (x + 1), tf.int32)


def about_centre(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Return the affine map, float32 [2, 3], that does `turn`, float32 [2, 2] of x and y, and keeps the centre."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    centre = tf.stack([width - 1, height - 1]) / 2
    return tf.concat([turn, (centre - tf.linalg.matvec(turn, centre))[:, None]], axis=1)


def rotation(degrees: tf.Tensor) -> tf.Tensor:
    """Return the map of places, float32 [2, 2], that turns an image counter-clockwise."""
    angle = degrees * (math.pi / 180)
    return tf.stack([[tf.cos(angle), -tf.sin(angle)], [tf.sin(angle), tf.cos(angle)]])


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Turn an image about its centre (`PIL.Image.rotate`)."""
    return resample(image, about_centre(image, rotation(degrees)))


def shear_x(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Move each row by `factor` times its number (Pillow's AFFINE of (1, factor, 0, 0, 1, 0))."""
    return resample(image, tf.stack([[1.0, factor, 0.0], [0.0, 1.0, 0.0]]))


def shear_y(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Move each column by `factor` times its number."""
    return resample(image, tf.stack([[1.0, 0.0, 0.0], [factor, 1.0, 0.0]]))


def translate_x(image: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Move an image to the left by a part of its width; to the right where the part is below 0."""
    return _translate(image, part, 1)


def translate_y(image: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
    """Move an image up by a part of its height; down where the part is below 0."""
    return _translate(image, part, 0)


def _translate(image: tf.Tensor, part: tf.Tensor, axis: int) -> tf.Tensor:
    """Move an image by whole pixels: it is cut and padded, and nothing is resampled."""
    length = tf.shape(image)[axis]
    offset = tf.cast(tf.round(part * tf.cast(length, tf.float32)), tf.int32)
    offset = tf.minimum(tf.maximum(offset, -length), length)
    begin, after = tf.maximum(offset, 0), tf.maximum(-offset, 0)
    lead = [slice(None)] * axis
    kept = image[(*lead, slice(begin, length - after))]
    paddings = [[0, 0] if each != axis else [after, begin] for each in range(3)]
    return tf.ensure_shape(tf.pad(kept, paddings, constant_values=FILL), image.shape)
