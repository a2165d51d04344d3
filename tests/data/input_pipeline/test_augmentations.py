"""Augmentations: pure in their seed, and without keras-cv's faults."""

import keras_cv
import numpy as np
import pytest
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import AUGMENTATIONS, choose_augmentations
from kcnn.data.input_pipeline.augmentations.flip import flip
from kcnn.data.input_pipeline.augmentations.mixing import cutmix, cutmix_or_mixup, mixup
from kcnn.data.input_pipeline.augmentations.randaugment import rand_augment
from kcnn.errors import UserError

PER_IMAGE = [name for name in AUGMENTATIONS if AUGMENTATIONS.get(name).stage == "image"]
PER_BATCH = [name for name in AUGMENTATIONS if AUGMENTATIONS.get(name).stage == "batch"]


def photos(count: int, size: int = 32) -> np.ndarray:
    """Return smooth float images without symmetries."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 5, 5, 3)).astype(np.float32)
    return tf.clip_by_value(tf.image.resize(noise, (size, size), "bicubic"), 0, 255).numpy()


def flat(count: int, height: int = 16, width: int = 24) -> tuple[tf.Tensor, tf.Tensor]:
    """Return images of which number i has the constant value i and class i."""
    images = np.broadcast_to(np.arange(count, dtype=np.float32)[:, None, None, None], (count, height, width, 3))
    return tf.constant(images), tf.one_hot(np.arange(count), count)


def seed(*pair: int) -> tf.Tensor:
    return tf.constant(pair, tf.int64)


def apply(name: str, images: np.ndarray, key: tf.Tensor) -> list[np.ndarray]:
    stages = choose_augmentations([name], lambda: images)
    if stages.batch:
        labels = tf.one_hot(range(len(images)), len(images))
        return [part.numpy() for part in tf.function(stages.batch[0])(tf.constant(images), labels, key)]
    function = tf.function(stages.image[0])
    return [np.stack([function(tf.constant(image), [key[0], index + key[1]]) for index, image in enumerate(images)])]


@pytest.mark.parametrize("name", [*PER_IMAGE, *PER_BATCH, "randaugment(ops=keras_cv)"])
def test_is_pure(name):
    """Expect the same images from the same seed, 0 included, and others from another seed."""
    images = photos(6)
    first = apply(name, images, seed(0, 0))
    tf.random.set_seed(123)
    other = apply(name, images, seed(0, 100))
    again = apply(name, images, seed(0, 0))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    for mixed in first:
        assert mixed.dtype == np.float32
        assert mixed.min() >= 0
        assert mixed.max() <= 255.001


@pytest.mark.parametrize("name", [*PER_IMAGE, "randaugment(ops=keras_cv)"])
def test_is_pure_in_a_parallel_map(name):
    images = photos(64, 16)
    (function,) = choose_augmentations([name], lambda: images).image

    def run(threads: int) -> np.ndarray:
        dataset = tf.data.Dataset.from_tensor_slices(images).enumerate()
        dataset = dataset.map(lambda index, image: function(image, tf.stack([7, index])), num_parallel_calls=threads)
        return np.stack(list(dataset.as_numpy_iterator()))

    np.testing.assert_array_equal(run(1), run(8))


def test_unknown_names_get_the_nearest():
    with pytest.raises(UserError, match="did you mean 'randaugment'"):
        AUGMENTATIONS.get("randaugmnet")


def test_flip_mirrors_half_of_the_images():
    image = tf.constant(photos(1)[0])
    results = [flip(image, seed(1, index)).numpy() for index in range(100)]
    mirrored = [np.array_equal(result, image[:, ::-1]) for result in results]
    assert all(same or np.array_equal(result, image) for same, result in zip(mirrored, results, strict=True))
    assert 30 <= sum(mirrored) <= 70


def test_rand_augment_leaves_the_identity_a_place():
    """Count identities: each of two operations is one in a case of 14, both in 0.5%, neither in 86%."""
    image = photos(1, 8)[0]
    function = tf.function(rand_augment)
    same = [np.array_equal(function(tf.constant(image), seed(0, index)), image) for index in range(200)]
    assert sum(same) <= 10


@pytest.mark.parametrize("attempt", range(20))
def test_cutmix_labels_are_the_pasted_parts(attempt):
    """Count the pasted pixels in images of constant colours; rectangles at the border are clipped."""
    images, labels = flat(8)
    mixed, weights = cutmix(images, labels, seed(attempt, 0))
    counted = np.stack([(mixed[..., 0].numpy() == value).mean(axis=(1, 2)) for value in range(8)], axis=1)
    np.testing.assert_allclose(weights, counted, atol=1e-6)


def test_keras_cvs_own_cutmix_is_biased():
    """Show the fault of keras-cv that the subclass corrects: when this fails, keras-cv was corrected."""
    images, labels = flat(64)
    mixed = keras_cv.layers.CutMix(dtype="float32")({"images": images, "labels": labels})
    counted = np.stack([(mixed["images"][..., 0].numpy() == value).mean(axis=(1, 2)) for value in range(64)], axis=1)
    assert np.abs(mixed["labels"] - counted).max() > 0.05


def test_cutmix_areas_follow_the_paper():
    """Check areas by Yun et al., section 3.1: with alpha 1 the pasted part before clipping is uniform in 0 to 1."""
    images, labels = flat(256, 64, 64)
    mixed, weights = cutmix(images, labels, seed(0, 1))
    pasted = 1 - np.diag(weights.numpy())
    assert 0.2 < pasted.mean() < 0.5
    rows = (mixed[..., 0].numpy() != np.arange(256)[:, None, None]).any(axis=2).sum(axis=1)
    columns = (mixed[..., 0].numpy() != np.arange(256)[:, None, None]).any(axis=1).sum(axis=1)
    np.testing.assert_allclose(rows * columns / 64**2, pasted, atol=1e-6)  # one rectangle


@pytest.mark.parametrize("attempt", range(5))
def test_mixup_labels_are_the_weights_of_the_images(attempt):
    """Mix images of which number i has the constant value i and class i: the mean value is the mean class."""
    images, labels = flat(16)
    mixed, weights = mixup(images, labels, seed(attempt, 0))
    np.testing.assert_allclose(mixed[:, 0, 0, 0], weights.numpy() @ np.arange(16), atol=1e-4)
    np.testing.assert_allclose(weights.numpy().sum(axis=1), 1, atol=1e-6)
    assert np.ptp(mixed.numpy(), axis=(1, 2)).max() == 0


def test_mixup_weights_are_beta_distributed():
    """Compare with Beta(0.2, 0.2), of mean 1/2 and variance 1/(4 x 1.4)."""
    images, labels = flat(512, 1, 1)
    own = np.diag(mixup(images, labels, seed(0, 0))[1].numpy())
    assert own.mean() == pytest.approx(0.5, abs=0.06)
    assert own.var() == pytest.approx(1 / 5.6, rel=0.15)


def test_cutmix_or_mixup_does_either():
    images, labels = flat(6)
    function = tf.function(cutmix_or_mixup)
    whole_values = [bool(np.all(function(images, labels, seed(n, 0))[0].numpy() % 1 == 0)) for n in range(60)]
    assert 15 <= sum(whole_values) <= 45


@pytest.mark.parametrize("name", PER_BATCH)
@pytest.mark.parametrize("count", [0, 1])
def test_batches_of_fewer_than_two_stay_as_they_are(name, count):
    images = tf.constant(photos(3)[:count])
    labels = tf.one_hot(range(3), 3)[:count]
    mixed, weights = AUGMENTATIONS.get(name).function(images, labels, seed(0, 0))
    np.testing.assert_array_equal(mixed, images)
    np.testing.assert_allclose(weights, labels, atol=1e-6)
