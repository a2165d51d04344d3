"""From example shards to batches: tf.data pipelines for training and evaluation.

A training batch depends on the seed, the epoch and its place in the epoch, and on nothing else: neither on the number
of threads, nor on the epoch at which a run was resumed.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from kcnn.data import examples
from kcnn.data.input_pipeline.augmentations import ViewFunction, choose_augmentations
from kcnn.data.input_pipeline.objectives import OBJECTIVES
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess
from kcnn.data.input_pipeline.windows import random_resized_crop

# Each shard holds every part of the data, so two shards mix well, and memory does not grow with the data.
SHUFFLE_BYTES = 2 * examples.SHARD_BYTES
MOST_SAMPLES = 10_000  # images to which augmentations are fitted; each shard holds every part of the data


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Return the batches in an epoch of `count` images: the whole ones, or one smaller batch where none is whole."""
    return max(1, count // batch_size)


@dataclasses.dataclass(frozen=True)
class TrainingShards:
    """The shards that are trained on.

    Attributes:
        paths: shard files of the training split.
        count: number of images in them.
        mean_bytes: mean size of an encoded image, with which `SHUFFLE_BYTES` bounds the shuffle buffer.
    """

    paths: Sequence[str]
    count: int
    mean_bytes: int


def training_batches(
    shards: TrainingShards,
    *,
    num_classes: int,
    batch_size: int,
    preprocessing: Preprocessing,
    augmentations: Sequence[str] = ("flip",),
    crop_scale: tuple[float, float] | None = (0.25, 1.0),
    seed: int,
    epochs: range,
    first_step: int = 0,
    objective: str = "classes",
) -> tf.data.Dataset:
    """Return augmented batches in random order, `steps_per_epoch` for each of `epochs`.

    Args:
        shards: the training split.
        num_classes: C, the classes of the objective, or of the data set where the objective has none of its own.
        batch_size: B; the number of images where that is smaller.
        preprocessing: size and resampling; the window too, where there is no random crop.
        augmentations: texts of `kcnn.data.input_pipeline.augmentations`, such as "flip" and "cutmix(alpha=0.5)"; those
            per batch come after those per image.
        crop_scale: smallest and largest area of the random crop as parts of the image's (Szegedy et al. 2014, section
            6); None for the window of evaluation.
        seed: any integer from 0; equal seeds give equal batches.
        epochs: `range(k, n)` gives what `range(n)` gives after its first k epochs.
        first_step: of the first epoch, the batches before this one are left out, and their images are not decoded.
        objective: a name of `kcnn.data.input_pipeline.objectives`, which decides the labels.

    Returns:
        images float32 [B, h, w, 3] in 0-255 and labels, one-hot or mixed, float32 [B, C].

    Raises:
        UserError: an augmentation or an objective is not registered, or an argument of the former is not valid.
        tf.errors.InvalidArgumentError: in iteration, for an image that cannot be decoded.
    """
    task = OBJECTIVES.get(objective).function
    chosen = choose_augmentations(augmentations, lambda: sample_images(shards, preprocessing))
    on_images, on_batches = chosen.image, chosen.batch
    steps, batch_size = steps_per_epoch(shards.count, batch_size), min(batch_size, shards.count)
    order_seed, image_seed, batch_seed = tf.unstack(tf.random.split(tf.constant([seed, 0], tf.int64), 3))

    def image_and_label(index: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = examples.parse_example(serialized)
        own_seed = tf.random.fold_in(image_seed, index)
        crop_seed, task_seed, *seeds = tf.unstack(tf.random.split(own_seed, 2 + len(on_images)))
        image = _draw_view(example["encoded"], preprocessing, crop_scale, crop_seed, chosen.view)
        for augment, own in zip(on_images, seeds, strict=True):
            image = augment(image, own)
        image, label = task(image, example["label"], task_seed)
        return image, tf.one_hot(label, num_classes)

    def mixed(index: tf.Tensor, batch: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        images, labels = batch
        seeds = tf.unstack(tf.random.split(tf.random.fold_in(batch_seed, index), len(on_batches)))
        for augment, own in zip(on_batches, seeds, strict=True):
            images, labels = augment(images, labels, own)
        return images, labels

    first_batch = epochs.start * steps + first_step
    dataset = tf.data.Dataset.range(epochs.start, epochs.stop)

    def records_of(epoch: tf.Tensor) -> tf.data.Dataset:
        records = shuffled_records(shards, epoch, order_seed)
        for arrange in chosen.records:
            records = arrange(records)
        return records.take(steps * batch_size)

    dataset = dataset.flat_map(records_of).skip(first_step * batch_size)
    dataset = dataset.enumerate(first_batch * batch_size)
    dataset = dataset.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    if on_batches:
        dataset = dataset.enumerate(first_batch).map(mixed, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(_options())


def evaluation_batches(
    paths: Sequence[str], *, num_classes: int, batch_size: int, preprocessing: Preprocessing, objective: str = "classes"
) -> tf.data.Dataset:
    """Return all images in the order of the shards, with a smaller last batch.

    The random draws of an objective follow from each image's place.

    Args:
        paths: shard files of a split.
        num_classes: C, the classes of the objective, or of the data set where the objective has none of its own.
        batch_size: B.
        preprocessing: size, window and resampling.
        objective: a name of `kcnn.data.input_pipeline.objectives`, which decides the labels.

    Returns:
        images float32 [B, h, w, 3] in 0-255 and one-hot labels float32 [B, C].

    Raises:
        tf.errors.InvalidArgumentError: in iteration, for an image that cannot be decoded.
    """
    task = OBJECTIVES.get(objective).function

    def image_and_label(index: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = examples.parse_example(serialized)
        image, label = task(preprocess(example["encoded"], preprocessing), example["label"], tf.stack([0, index]))
        return image, tf.one_hot(label, num_classes)

    dataset = examples.read_examples(list(paths)).enumerate().map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE).with_options(_options())


def view_batches(
    shards: TrainingShards,
    *,
    num_classes: int,
    batch_size: int,
    preprocessing: Preprocessing,
    augmentations: Sequence[str],
    crop_scale: tuple[float, float] | None,
    seed: int,
    views: range,
) -> tf.data.Dataset:
    """Return all images in the order of the shards, as `evaluation_batches`, in one random view after the other.

    Args:
        shards: a split.
        num_classes: C.
        batch_size: B.
        preprocessing: size and resampling; the window too, where there is no random crop.
        augmentations: texts of `kcnn.data.input_pipeline.augmentations`; those per batch mix images, and are left out.
        crop_scale: as of `training_batches`.
        seed: any integer from 0.
        views: `range(k, n)` gives what `range(n)` gives after its first k views.

    Returns:
        images float32 [B, h, w, 3] in 0-255 and one-hot labels float32 [B, C].

    Raises:
        UserError: an augmentation is not registered.
        tf.errors.InvalidArgumentError: in iteration, for an image that cannot be decoded.
    """
    chosen = choose_augmentations(augmentations, lambda: sample_images(shards, preprocessing))
    augments = chosen.image

    def image_and_label(place: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = examples.parse_example(serialized)
        view, index = views.start + place // shards.count, place % shards.count
        own_seed = tf.random.fold_in(tf.random.fold_in(tf.constant([seed, 0], tf.int64), view), index)
        crop_seed, *seeds = tf.unstack(tf.random.split(own_seed, 1 + len(augments)))
        image = _draw_view(example["encoded"], preprocessing, crop_scale, crop_seed, chosen.view)
        for augment, own in zip(augments, seeds, strict=True):
            image = augment(image, own)
        return image, tf.one_hot(example["label"], num_classes)

    records = examples.read_examples(list(shards.paths)).repeat(len(views)).enumerate()
    dataset = records.map(image_and_label, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE).with_options(_options())


def _draw_view(
    encoded: tf.Tensor,
    spec: Preprocessing,
    crop_scale: tuple[float, float] | None,
    seed: tf.Tensor,
    view: ViewFunction | None,
) -> tf.Tensor:
    """Decode the view that an augmentation draws, or a random crop, or evaluation's window if `crop_scale` is None."""
    if view is not None:
        return tf.ensure_shape(view(encoded, spec, seed), [*spec.image_size, 3])
    return preprocess(encoded, spec) if crop_scale is None else random_resized_crop(encoded, spec, crop_scale, seed)


def sample_images(shards: TrainingShards, spec: Preprocessing) -> Iterator[np.ndarray]:
    """Yield training images as evaluation would see them, float32 [h, w, 3], `MOST_SAMPLES` at most."""
    records = examples.read_examples(list(shards.paths)).take(MOST_SAMPLES)
    images = records.map(
        lambda serialized: preprocess(examples.parse_example(serialized)["encoded"], spec),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return images.with_options(_options()).as_numpy_iterator()


def shuffled_records(shards: TrainingShards, epoch: tf.Tensor, seed: tf.Tensor) -> tf.data.Dataset:
    """Return the records of all shards in the random order of an epoch."""
    tf.compat.v1.set_random_seed(1)  # for the graph of this epoch, so that `tf.random.set_seed` does not matter
    of_shards, of_records = tf.unstack(tf.random.split(tf.random.fold_in(seed, epoch), 2))
    paths = tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(shards.paths, of_shards))
    # At most two shards at once: so the buffer holds whole shards and thereby every part of the data.
    records = paths.interleave(lambda path: examples.read_examples([path]), cycle_length=2)
    buffer = max(1, min(shards.count, SHUFFLE_BYTES // shards.mean_bytes))
    return records.shuffle(buffer, seed=of_records[0], reshuffle_each_iteration=False)


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    return options
