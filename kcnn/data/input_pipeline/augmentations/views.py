"""Views: the window of an image that is seen, in the place of the recipe's random crop; and repeated images."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_epoch, per_view
from kcnn.data.input_pipeline.decode import decode_window
from kcnn.data.input_pipeline.transform import Preprocessing, fit_to_size, preprocess
from kcnn.data.input_pipeline.windows import random_resized_crop

_PART = (0.01, 1.0)
_PAD = {"grey": ("CONSTANT", 128.0), "black": ("CONSTANT", 0.0), "reflect": ("REFLECT", 0.0)}


@per_view("crop", low=_PART, high=_PART)
def crop(
    encoded: tf.Tensor, preprocessing: Preprocessing, seed: tf.Tensor, *, low: float = 0.08, high: float = 1.0
) -> tf.Tensor:
    """Cut a window of `low` to `high` of the area, of any place and of 3:4 to 4:3 (Szegedy et al. 2014, section 6)."""
    return random_resized_crop(encoded, preprocessing, (low, max(low, high)), seed)


@per_view("scale_jitter", low=(1.0, 8.0), high=(1.0, 8.0))
def scale_jitter(
    encoded: tf.Tensor,
    preprocessing: Preprocessing,
    seed: tf.Tensor,
    *,
    low: float = 256 / 224,
    high: float = 480 / 224,
) -> tf.Tensor:
    """Cut a window of an image whose shorter side is `low` to `high` times the window's.

    The defaults are ResNet's, of 224 pixels of an image whose shorter side is 256 to 480 (He et al., CVPR 2016, 3.4;
    Simonyan and Zisserman, ICLR 2015, 3.1).
    """
    share, y, x = tf.unstack(tf.random.stateless_uniform([3], seed))
    window = tf.constant(preprocessing.image_size, tf.float32)

    def choose(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        sides = tf.cast(shape, tf.float32)
        scale = tf.reduce_min(sides / window) / (low + (max(low, high) - low) * share)
        size = tf.clip_by_value(tf.cast(tf.round(scale * window), tf.int32), 1, shape)
        return tf.cast(tf.stack([y, x]) * tf.cast(shape - size + 1, tf.float32), tf.int32), size

    return fit_to_size(decode_window(encoded, choose, preprocessing.image_size), preprocessing)


@per_view("pad_crop", pad=(0.0, 0.5), fill=tuple(_PAD))
def pad_crop(
    encoded: tf.Tensor, preprocessing: Preprocessing, seed: tf.Tensor, *, pad: float = 0.125, fill: str = "grey"
) -> tf.Tensor:
    """Move evaluation's view by up to `pad` of its sides in each direction; 0.125 is 4 of CIFAR's 32 pixels.

    (He et al., CVPR 2016, 4.2; Lee et al., "Deeply-Supervised Nets", 2015.)
    """
    image = preprocess(encoded, preprocessing)
    height, width = preprocessing.image_size
    margins = [round(pad * height), round(pad * width)]
    mode, value = _PAD[fill]
    padded = tf.pad(image, [[margins[0]] * 2, [margins[1]] * 2, [0, 0]], mode, value)
    places = tf.constant([2.0 * margin + 1 for margin in margins])
    begin = tf.cast(tf.random.stateless_uniform([2], seed) * places, tf.int32)
    return tf.slice(padded, tf.concat([begin, [0]], axis=0), [height, width, 3])


@per_epoch("repeated", times=(1, 64))
def repeated(records: tf.data.Dataset, *, times: int = 3) -> tf.data.Dataset:
    """Let each image come several times in a row, each time augmented anew (Hoffer et al., CVPR 2020).

    An epoch keeps its number of steps, and has fewer of the images, others each time (Berman et al., "MultiGrain",
    2019; Touvron et al., "DeiT", 2020).
    """
    return records.flat_map(lambda record: tf.data.Dataset.from_tensors(record).repeat(times))
