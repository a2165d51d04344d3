"""From bytes or pixels to a model's input: the transform that evaluation, predict and the served graph share.

It consists of deterministic TensorFlow ops: the same functions are traced into the exported model.
"""

import dataclasses

import tensorflow as tf

from kcnn.data.input_pipeline.decode import count_halvings, decode_window
from kcnn.errors import UserError, nearest

RESIZE_MODES = ("crop", "squash", "letterbox")
INTERPOLATIONS = ("bilinear", "bicubic")
# Images of a batch decoded at once: enough to fill the cores, few enough that large photos do not fill the memory.
_PARALLEL_DECODES = 8


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """The way from an image of any size to one of `image_size`; `dataclasses.asdict` is its JSON.

    Attributes:
        image_size: height and width that the model takes.
        resize_mode: "crop" takes the central window of the model's aspect ratio, "squash" the whole image whatever its
            aspect ratio, "letterbox" the whole image with black borders.
        crop_fraction: side of the "crop" window over that of the largest window that fits; 0.875 is 224 of 256.
        interpolation: "bilinear" or "bicubic".
        antialias: whether shrinking averages over all pixels, as Pillow does.

    Raises:
        UserError: a value is not valid.
    """

    image_size: tuple[int, int]
    resize_mode: str = "crop"
    crop_fraction: float = 0.875
    interpolation: str = "bilinear"
    antialias: bool = True

    def __post_init__(self) -> None:
        size = tuple(self.image_size)
        if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
            raise UserError(f"image size {self.image_size!r}: expected height and width in pixels, such as (224, 224)")
        object.__setattr__(self, "image_size", size)  # a list, when it was read from JSON
        if self.resize_mode not in RESIZE_MODES:
            raise UserError(f"unknown resize mode {self.resize_mode!r}: {nearest(self.resize_mode, RESIZE_MODES)}")
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f"unknown interpolation {self.interpolation!r}: {nearest(self.interpolation, INTERPOLATIONS)}"
            )
        if not 0 < self.crop_fraction <= 1:
            raise UserError(f"crop fraction {self.crop_fraction}: expected more than 0 and at most 1; 0.875 is usual")


def preprocess(encoded: tf.Tensor, spec: Preprocessing, webp: bool = True) -> tf.Tensor:
    """Decode an image file and bring the window that the model sees to the model's size.

    Args:
        encoded: scalar string, an image file's bytes.
        spec: size, mode, interpolation.
        webp: whether to know WebP, for which TensorFlow 2.16, TFX 1.16's, has no op.

    Returns:
        float32 [h, w, 3], RGB in 0-255.

    Raises:
        tf.errors.InvalidArgumentError: when it runs, for bytes that cannot be decoded.
    """
    return fit_to_size(decode_window(encoded, lambda shape: central_window(shape, spec), spec.image_size, webp), spec)


def preprocess_batch(encoded: tf.Tensor, spec: Preprocessing, webp: bool = True) -> tf.Tensor:
    """Apply `preprocess` to a batch, string [N] → float32 [N, h, w, 3].

    It runs on the CPU wherever it is called: decoders have no other kernel, and resizing differs elsewhere.
    """
    with tf.device("/CPU:0"):
        return tf.map_fn(
            lambda image: preprocess(image, spec, webp),
            encoded,
            fn_output_signature=tf.TensorSpec([*spec.image_size, 3], tf.float32),
            parallel_iterations=_PARALLEL_DECODES,
        )


def resize(image: tf.Tensor, spec: Preprocessing) -> tf.Tensor:
    """Bring the window that the model sees of an image to the model's size, as `preprocess` does, from pixels.

    Args:
        image: uint8 or float [H, W, 3] or [N, H, W, 3], RGB in 0-255.
        spec: size, mode, interpolation.

    Returns:
        float32 [h, w, 3] or [N, h, w, 3].
    """
    begin, size = central_window(tf.shape(image)[-3:-1], spec)
    end = begin + size
    return fit_to_size(image[..., begin[0] : end[0], begin[1] : end[1], :], spec)


def central_window(shape: tf.Tensor, spec: Preprocessing) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the window that the model sees of an image of `shape` (int32 [2]): its begin and size, int32 [2] each.

    In a large image it lies on the grid to which a JPEG is reduced, so that bytes and pixels give the same window.
    """
    if spec.resize_mode == "crop":
        scale = spec.crop_fraction * tf.reduce_min(tf.cast(shape, tf.float32) / spec.image_size)
        size = tf.clip_by_value(tf.cast(tf.round(scale * spec.image_size), tf.int32), 1, shape)
    else:
        size = shape
    grid = 2 ** count_halvings(size, spec.image_size)
    size -= size % grid
    begin = (shape - size) // 2
    return begin - begin % grid, size


def fit_to_size(image: tf.Tensor, spec: Preprocessing) -> tf.Tensor:
    """Bring a whole image to the model's size.

    Args:
        image: uint8 or float [..., H, W, 3], RGB in 0-255.
        spec: size, mode, interpolation.

    Returns:
        float32 [..., h, w, 3] in 0-255.
    """
    if spec.resize_mode == "letterbox":
        shape = tf.cast(tf.shape(image)[-3:-1], tf.float32)
        scale = tf.reduce_min(spec.image_size / shape)
        size = tf.clip_by_value(tf.cast(tf.round(scale * shape), tf.int32), 1, spec.image_size)
    else:
        size = tf.constant(spec.image_size)

    given = tf.shape(image)[-3:-1]

    def resample(antialias: bool) -> tf.Tensor:
        return tf.image.resize(image, size, spec.interpolation, antialias=antialias)

    def enlarge() -> tf.Tensor:
        fits = tf.reduce_all(size == given)  # the kernel would return the same pixels, and take time
        return tf.cond(fits, lambda: tf.cast(image, tf.float32), lambda: resample(antialias=False))

    if spec.antialias:
        # To enlarge, the antialiasing kernel returns the same pixels and takes four times as long.
        resized = tf.cond(tf.reduce_any(size < given), lambda: resample(antialias=True), enlarge)
    else:
        resized = enlarge()
    if spec.interpolation == "bicubic":
        resized = tf.clip_by_value(resized, 0.0, 255.0)
    if spec.resize_mode == "letterbox":
        top, left = tf.unstack((spec.image_size - size) // 2)
        resized = tf.image.pad_to_bounding_box(resized, top, left, *spec.image_size)
    return tf.ensure_shape(resized, [*image.shape[:-3], *spec.image_size, 3])
