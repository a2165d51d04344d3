"""Strong crops of few pictures: batches without labels, which a teacher answers.

Asano & Saeed, "The Augmented Image Prior", ICLR 2023: crops that differ much make an image set of a single picture. A
crop is a window of any size, turned, mirrored and resampled in one step from the picture or from a half, a quarter or
an eighth of it, so that nothing is aliased. Pictures are decoded once and held in memory where they are few.

A batch depends on the seed, the epoch and its place in the epoch, and on nothing else.
"""

import dataclasses
import math
from collections.abc import Sequence

import tensorflow as tf

from kcnn.data import examples
from kcnn.data.input_pipeline.augmentations import Stages, choose_augmentations
from kcnn.data.input_pipeline.batches import TrainingShards, sample_images, shuffled_records
from kcnn.data.input_pipeline.decode import decode_window
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.data.input_pipeline.windows import ASPECT_RATIOS
from kcnn.errors import UserError

FEW_BYTES = 16 * 2**20  # pictures whose files have no more are held in memory, decoded; JPEG decodes to some 20 times
CROPS_OF_PICTURE = 8  # one after the other, of a picture that is decoded
ANGLE = math.pi / 6  # a crop is turned by this at most, either way
_HALVINGS = 3
_SIDES = 4  # a JPEG is decoded at 1/2, 1/4 or 1/8 as long as its sides are twice this many times the crop's


@dataclasses.dataclass(frozen=True)
class Crops:
    """The crops of an epoch.

    Attributes:
        size: height and width, in pixels.
        count: how many; `batch_size` divides it, or the rest is not made.
        scale: smallest and largest area of the window, as parts of the picture's; the logarithm is uniform.
        augmentations: texts of `kcnn.data.input_pipeline.augmentations`; those per batch come after those per image.
    """

    size: int
    count: int
    scale: tuple[float, float]
    augmentations: Sequence[str] = ()


def crop_batches(shards: TrainingShards, crops: Crops, *, batch_size: int, seed: int, epochs: range) -> tf.data.Dataset:
    """Return batches of crops, `crops.count // batch_size` for each of `epochs`.

    The pictures take turns, each with eight crops. Pictures that are not held in memory come in random order.

    Args:
        shards: the pictures.
        crops: what is made of them.
        batch_size: B.
        seed: any integer from 0; equal seeds give equal batches.
        epochs: `range(k, n)` gives what `range(n)` gives after its first k epochs.

    Returns:
        images float32 [B, size, size, 3] in 0-255.

    Raises:
        UserError: an augmentation is not registered or not valid here.
        tf.errors.InvalidArgumentError: in iteration, for a picture that cannot be decoded.
    """
    chosen = choose_augmentations(crops.augmentations, lambda: sample_images(shards, Preprocessing((crops.size,) * 2)))
    check_crop_augmentations(chosen)
    on_images, on_batches = chosen.image, chosen.batch
    order_seed, image_seed, batch_seed = tf.unstack(tf.random.split(tf.constant([seed, 1], tf.int64), 3))
    steps = crops.count // batch_size
    first_batch = epochs.start * steps
    first_visit, skipped = divmod(first_batch * batch_size, CROPS_OF_PICTURE)

    def crop(index: tf.Tensor, levels: tuple[tf.Tensor, ...]) -> tf.Tensor:
        own, *seeds = tf.unstack(tf.random.split(tf.random.fold_in(image_seed, index), 1 + len(on_images)))
        image = tf.cast(random_crop(levels, crops.size, crops.scale, own), tf.float32)
        for augment, each in zip(on_images, seeds, strict=True):
            image = augment(image, each)
        return tf.ensure_shape(image, [crops.size, crops.size, 3])

    def mixed(index: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        seeds = tf.unstack(tf.random.split(tf.random.fold_in(batch_seed, index), len(on_batches)))
        for augment, each in zip(on_batches, seeds, strict=True):
            images, _ = augment(images, tf.zeros([batch_size, 1]), each)
        return images

    visits = _visits(shards, crops.size, first_visit, order_seed)
    dataset = visits.flat_map(lambda *levels: tf.data.Dataset.from_tensors(levels).repeat(CROPS_OF_PICTURE))
    dataset = dataset.skip(skipped).take(len(epochs) * steps * batch_size)
    dataset = dataset.enumerate(first_batch * batch_size).map(crop, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    if on_batches:
        dataset = dataset.enumerate(first_batch).map(mixed, num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def check_crop_augmentations(chosen: Stages) -> None:
    """Raise UserError where augmentations draw views or repeat images, which crops of pictures do in their own way."""
    if chosen.view or chosen.records:
        raise UserError("--augment: crops of pictures are drawn in their own way; expected no other crop or repetition")


def _visits(shards: TrainingShards, size: int, first: int, seed: tf.Tensor) -> tf.data.Dataset:
    """Return the decoded pictures without end, from the visit number `first` on, each as `pyramid` has it."""

    def decode(serialized: tf.Tensor) -> tuple[tf.Tensor, ...]:
        encoded = examples.parse_example(serialized)["encoded"]
        return pyramid(decode_window(encoded, lambda shape: (tf.zeros_like(shape), shape), (_SIDES * size,) * 2))

    if shards.count * shards.mean_bytes <= FEW_BYTES:
        pictures = examples.read_examples(list(shards.paths)).map(decode, num_parallel_calls=tf.data.AUTOTUNE)
        return pictures.cache().repeat().skip(first % shards.count)
    rounds = tf.data.Dataset.range(first // shards.count, tf.int64.max)
    records = rounds.flat_map(lambda number: shuffled_records(shards, number, seed)).skip(first % shards.count)
    return records.map(decode, num_parallel_calls=2)  # each is large


def pyramid(picture: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Return a picture, uint8 [H, W, 3], and its half, quarter and eighth: averages of 2x2, 4x4 and 8x8 pixels."""
    levels = [picture]
    for _ in range(_HALVINGS):
        larger = tf.cast(levels[-1], tf.float32)[None]
        levels.append(tf.cast(tf.round(tf.nn.avg_pool2d(larger, 2, 2, "SAME")[0]), tf.uint8))
    return tuple(levels)


def random_crop(levels: tuple[tf.Tensor, ...], size: int, scale: tuple[float, float], seed: tf.Tensor) -> tf.Tensor:
    """Resample a random window of a picture, turned and in one case of two mirrored.

    What a turned window has outside of the picture is the picture's reflection.

    Args:
        levels: as `pyramid` returns them.
        size: height and width of the crop.
        scale: smallest and largest area of the window as parts of the picture's.
        seed: int [2].

    Returns:
        uint8 [size, size, 3].
    """
    area, ratio, angle, x, y, mirrored = tf.unstack(tf.random.stateless_uniform([6], seed))
    picture = tf.cast(tf.shape(levels[0])[:2], tf.float32)
    area = _between(scale, area) * tf.reduce_prod(picture)
    ratio = _between(ASPECT_RATIOS, ratio)
    window = tf.minimum(tf.stack([tf.sqrt(area / ratio), tf.sqrt(area * ratio)]), picture)
    centre = window / 2 + tf.stack([y, x]) * (picture - window)
    level = tf.clip_by_value(tf.math.log(tf.reduce_min(window) / size) / math.log(2), 0.0, float(_HALVINGS))
    level = tf.cast(level, tf.int32)
    shrunk = 2.0 ** tf.cast(level, tf.float32)
    height, width = tf.unstack(window / shrunk / size)
    angle = ANGLE * (2 * angle - 1)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    width *= tf.where(mirrored < 0.5, -1.0, 1.0)
    # From a place in the crop to the place in the picture; the centres of pixels are at whole numbers.
    turn = tf.stack([[cosine * width, -sine * height], [sine * width, cosine * height]])
    begin = centre[::-1] / shrunk - 0.5 - tf.reduce_sum(turn, axis=1) * (size - 1) / 2
    rows = tf.concat([turn, begin[:, None]], axis=1)
    choices = [lambda chosen=chosen: chosen for chosen in levels]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.switch_case(level, choices)[None],
        transforms=tf.concat([tf.reshape(rows, [6]), [0.0, 0.0]], axis=0)[None],
        output_shape=[size, size],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )[0]


def _between(ends: tuple[float, float], share: tf.Tensor) -> tf.Tensor:
    """Return the number whose logarithm lies at `share`, 0 to 1, between those of two numbers."""
    low, high = ends
    return low * (high / low) ** share
