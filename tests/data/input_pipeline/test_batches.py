"""Batches: their content and order, which a seed and an epoch determine."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from kcnn.data import examples
from kcnn.data.input_pipeline.batches import (
    TrainingShards,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess
from kcnn.data.input_pipeline.windows import random_resized_crop
from kcnn.errors import UserError
from tests.shards import write

COUNT = 21
SPEC = Preprocessing((16, 16), antialias=False)
AUGMENTATIONS = ("flip", "randaugment", "cutmix_mixup")


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def photo(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def encoded() -> list[bytes]:
    return [saved(photo(seed), ("JPEG", "PNG", "GIF")[seed % 3]) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def paths(encoded, tmp_path_factory) -> list[str]:
    """Write three shards of images, of which number i has class i."""
    directory: Path = tmp_path_factory.mktemp("shards")
    rows = [examples.Example(data, f"{i}.jpg", i, str(i), "JPEG", 30, 40, str(i)) for i, data in enumerate(encoded)]
    return write(directory, "train", rows, 3)


def batches(paths, *, epochs=range(2), seed=0, augmentations=AUGMENTATIONS, batch_size=8, **options) -> tf.data.Dataset:
    settings = {"num_classes": COUNT, "preprocessing": SPEC, "mean_bytes": 1000} | options
    shards = TrainingShards(paths, COUNT, settings.pop("mean_bytes"))
    return training_batches(
        shards, epochs=epochs, seed=seed, augmentations=augmentations, batch_size=batch_size, **settings
    )


def arrays(dataset: tf.data.Dataset) -> list[np.ndarray]:
    return [part for batch in dataset.as_numpy_iterator() for part in batch]


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def order(dataset: tf.data.Dataset) -> list[list[int]]:
    """Return the classes, and thereby the images, of each batch."""
    return [labels.argmax(axis=1).tolist() for _, labels in dataset.as_numpy_iterator()]


def test_batches_are_images_and_labels(paths):
    found = list(batches(paths).as_numpy_iterator())
    assert len(found) == 2 * steps_per_epoch(COUNT, 8) == 4
    for images, labels in found:
        assert images.shape == (8, 16, 16, 3)
        assert labels.shape == (8, COUNT)
        assert images.dtype == labels.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 255.001
        np.testing.assert_allclose(labels.sum(axis=1), 1, atol=1e-5)


def test_equal_seeds_give_equal_batches_on_any_number_of_threads(paths):
    texts = ("repeated(times=2)", "scale_jitter", "flip", "randaugment", "pca_color", "random_erasing", "cutmix")

    def with_threads(count: int, seed: int) -> list[np.ndarray]:
        options = tf.data.Options()
        options.threading.private_threadpool_size = count
        return arrays(batches(paths, seed=seed, augmentations=texts).with_options(options))

    first = with_threads(1, 0)
    tf.random.set_seed(99)
    assert same(first, with_threads(6, 0))
    assert not any(np.array_equal(a, b) for a, b in zip(first, with_threads(6, 1), strict=True))


def test_repeated_images_come_in_a_row_each_augmented_anew(paths):
    """Expect in 18 images six of the 21, three times each, others in the next epoch, and no two equal."""
    found = list(batches(paths, augmentations=("repeated(times=3)", "crop(low=0.3)"), batch_size=9).as_numpy_iterator())
    assert len(found) == 2 * steps_per_epoch(COUNT, 9) == 4
    images, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    classes = labels.argmax(axis=1).reshape(2, 6, 3)
    assert (classes == classes[..., :1]).all()
    assert all(len(set(epoch[:, 0])) == 6 for epoch in classes)
    assert set(classes[0].ravel()) != set(classes[1].ravel())
    assert len({image.tobytes() for image in images}) == len(images)


def test_what_is_fitted_to_the_training_images_is_theirs(paths, encoded):
    """Expect most pixels hidden under the mean colour of these very images, as the network sees them."""
    images = np.stack([preprocess(tf.constant(data), SPEC) for data in encoded])
    options = {"augmentations": ("cutout(size=1,holes=4)",), "crop_scale": None, "batch_size": COUNT}
    [(hidden, _)] = batches(paths, epochs=range(1), **options).as_numpy_iterator()
    close = np.isclose(hidden, images.mean(axis=(0, 1, 2)), atol=0.05).all(axis=-1)
    assert close.mean() > 0.5


def test_a_resumed_run_goes_on_with_the_same_batches(paths):
    whole = arrays(batches(paths, epochs=range(3)))
    assert same(whole[4:], arrays(batches(paths, epochs=range(1, 3))))
    assert same(whole[8:], arrays(batches(paths, epochs=range(2, 3))))
    assert not same(whole[:4], whole[4:8])


def test_each_epoch_has_each_image_at_most_once_in_an_order_of_its_own(paths):
    epochs = np.array(order(batches(paths, epochs=range(6), augmentations=(), batch_size=7))).reshape(6, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 6


@pytest.mark.parametrize("mean_bytes", [1000, 2**40])
def test_the_shuffle_buffer_is_bounded(paths, mean_bytes):
    """Shuffle images so large that the buffer holds one: none is lost, but the order is that of the shards."""
    images = [
        i for batch in order(batches(paths, augmentations=(), batch_size=7, mean_bytes=mean_bytes)) for i in batch
    ]
    assert sorted(images[:COUNT]) == list(range(COUNT))
    neighbours = np.mean(np.abs(np.diff(images)) <= 3)
    assert (neighbours > 0.6) == (mean_bytes > 1000)


def test_fewer_images_than_a_batch_make_a_smaller_one(paths):
    found = list(batches(paths, batch_size=64, augmentations=("flip", "cutmix")).as_numpy_iterator())
    assert [images.shape[0] for images, _ in found] == [COUNT, COUNT]
    assert steps_per_epoch(COUNT, 64) == 1


def test_without_crop_and_augmentations_training_sees_what_evaluation_sees(paths, encoded):
    [(images, labels)] = batches(
        paths, epochs=range(1), augmentations=(), crop_scale=None, batch_size=COUNT
    ).as_numpy_iterator()
    expected = np.stack([preprocess(tf.constant(encoded[i]), SPEC) for i in labels.argmax(axis=1)])
    np.testing.assert_array_equal(images, expected)


def test_evaluation_keeps_order_and_remainder(paths, encoded):
    found = list(evaluation_batches(paths, num_classes=COUNT, batch_size=8, preprocessing=SPEC).as_numpy_iterator())
    assert [images.shape for images, _ in found] == [(8, 16, 16, 3), (8, 16, 16, 3), (5, 16, 16, 3)]
    images, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    np.testing.assert_array_equal(labels.sum(axis=1), 1)
    assert sorted(labels.argmax(axis=1)) == list(range(COUNT))
    np.testing.assert_array_equal(
        images, np.stack([preprocess(tf.constant(encoded[i]), SPEC) for i in labels.argmax(1)])
    )
    again = evaluation_batches(paths, num_classes=COUNT, batch_size=8, preprocessing=SPEC)
    assert same(arrays(again), [part for batch in found for part in batch])


def test_unknown_augmentations_are_a_user_error(paths):
    with pytest.raises(UserError, match="did you mean 'mixup'"):
        batches(paths, augmentations=("mixip",))


def test_a_damaged_image_is_an_error_and_not_left_out(encoded, tmp_path):
    damaged = [*encoded[:-1], encoded[-1][:100]]
    shards = write(tmp_path, "train", [examples.Example(data, "", 0, "", "", 0, 0, "") for data in damaged])
    with pytest.raises(tf.errors.InvalidArgumentError):
        arrays(batches(shards))
    with pytest.raises(tf.errors.InvalidArgumentError):
        arrays(evaluation_batches(shards, num_classes=COUNT, batch_size=8, preprocessing=SPEC))


@pytest.mark.slow
def test_under_a_distribution_strategy(paths):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        dataset = batches(paths, augmentations=("flip", "cutmix_mixup"))
    distributed = [np.array(part) for batch in strategy.experimental_distribute_dataset(dataset) for part in batch]
    assert same(arrays(dataset), distributed)


@pytest.fixture(scope="module")
def crops() -> tuple[np.ndarray, np.ndarray]:
    """Return sizes and centres, [300, 2] each, of 300 windows of an image of coordinates, as parts of the image."""
    rows, columns = np.mgrid[:180, :240].astype(np.uint8)
    data = tf.constant(saved(Image.fromarray(np.stack([rows, columns, 0 * rows], axis=-1)), "PNG"))
    crop = tf.function(lambda n: random_resized_crop(data, SPEC, (0.25, 1.0), tf.stack([0, n])))
    places = np.stack([crop(n) for n in tf.range(300)])[..., :2]
    spans = (places.max(axis=(1, 2)) - places.min(axis=(1, 2))) * 16 / 15
    return spans / [180, 240], places.mean(axis=(1, 2)) / [180, 240]


def test_random_crops_have_the_asked_areas_and_aspect_ratios(crops):
    sizes, centres = crops
    areas, ratios = sizes.prod(axis=1), sizes[:, 1] * 240 / (sizes[:, 0] * 180)
    assert areas.min() > 0.24
    assert areas.min() < 0.3
    assert 0.9 < areas.max() < 1.02
    assert ratios.min() > 0.72
    assert ratios.max() < 1.36
    assert ratios.min() < 0.8
    assert ratios.max() > 1.25
    np.testing.assert_allclose(centres.mean(axis=0), 0.5, atol=0.03)
    assert (centres.std(axis=0) > 0.05).all()


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_random_crop_of_a_jpeg_equals_that_of_its_pixels(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = saved(photo(0, 200, 150), "JPEG", quality=95, subsampling=0, exif=exif)
    pixels = tf.image.encode_png(np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(jpeg))))).numpy()
    for n in range(10):
        found = [random_resized_crop(data, Preprocessing((64, 64)), (0.1, 0.9), [0, n]) for data in (jpeg, pixels)]
        np.testing.assert_allclose(*found, atol=1e-3)


@pytest.mark.parametrize("size", [(1, 1), (1, 100), (3, 2)])
def test_random_crop_of_tiny_images(size):
    data = tf.constant(saved(photo(0, *size), "PNG"))
    for n in range(5):
        assert random_resized_crop(data, SPEC, (0.25, 1.0), tf.constant([0, n])).shape == (16, 16, 3)
