"""Crops of pictures: where their pixels come from, and that a seed decides all of them."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from kcnn.data import examples
from kcnn.data.input_pipeline import crops
from kcnn.data.input_pipeline.batches import TrainingShards
from kcnn.data.input_pipeline.crops import Crops, crop_batches, pyramid, random_crop
from tests.shards import write


def smooth(height, width, seed=0):
    """Return a picture that varies slowly, so that resampling it in another way gives nearly the same."""
    noise = np.random.default_rng(seed).uniform(0, 255, (5, 6, 3)).astype(np.float32)
    return np.clip(tf.image.resize(noise, (height, width), "bicubic"), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Write three pictures of different sizes, and return them as shards."""
    rows = [
        examples.Example(
            tf.io.encode_png(smooth(*size, index)).numpy(), f"{index}.png", 0, "x", "PNG", *size, str(index)
        )
        for index, size in enumerate([(60, 80), (100, 50), (48, 48)])
    ]
    return TrainingShards(write(tmp_path_factory.mktemp("pictures"), "train", rows, count=2), 3, 5_000)


def taken(shards, epochs, kind, seed=0):
    return np.stack(list(crop_batches(shards, kind, batch_size=16, seed=seed, epochs=epochs)))


@pytest.mark.parametrize(("few", "augmentations"), [(crops.FEW_BYTES, ("cutmix",)), (0, ())])
def test_a_seed_decides_all_crops_and_a_later_epoch_begins_where_it_would(shards, few, augmentations, monkeypatch):
    """Read the pictures into memory, and read them anew each time."""
    monkeypatch.setattr(crops, "FEW_BYTES", few)
    kind = Crops(16, 52, (0.02, 1.0), augmentations)  # three batches, which end within a picture's eight
    whole = taken(shards, range(3), kind)
    assert whole.shape == (9, 16, 16, 16, 3)
    assert whole.dtype == np.float32
    assert (whole.min() >= 0) & (whole.max() <= 255.001)
    tf.random.set_seed(5)
    np.testing.assert_array_equal(whole[3:], taken(shards, range(1, 3), kind))
    assert not np.array_equal(whole[:3], taken(shards, range(1), kind, seed=1))
    flat = whole.reshape(-1, 16 * 16 * 3)
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_halves_are_averages():
    picture = smooth(33, 50)
    _, half, *_, eighth = pyramid(tf.constant(picture))
    expected = picture[:32].astype(float).reshape(16, 2, 25, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half[:16], expected, atol=0.51)
    assert eighth.shape == (5, 7, 3)


def test_the_whole_picture_is_the_picture_turned(monkeypatch):
    """Compare with SciPy, for windows as large as the picture: their size and place are known."""
    monkeypatch.setattr(crops, "ANGLE", 0.0)
    monkeypatch.setattr(crops, "ASPECT_RATIOS", (1.0, 1.0))
    picture = smooth(64, 64)
    levels = pyramid(tf.constant(picture))
    small = ndimage.zoom(picture.astype(float), (0.5, 0.5, 1), order=1, grid_mode=True, mode="nearest")
    seen = set()
    for number in range(12):
        crop = random_crop(levels, 32, (1.0, 1.0), tf.constant([0, number])).numpy().astype(float)
        errors = {flipped: np.abs(crop - small[:, ::-1] if flipped else crop - small).mean() for flipped in (0, 1)}
        flipped = min(errors, key=errors.__getitem__)
        assert errors[flipped] < 2
        seen.add(flipped)
    assert seen == {0, 1}


def test_a_turned_crop_is_scipys(monkeypatch):
    """Undo the rotation about the middle with SciPy: what is left is the picture."""
    monkeypatch.setattr(crops, "ASPECT_RATIOS", (1.0, 1.0))
    picture = smooth(65, 65)
    levels = pyramid(tf.constant(picture))
    rng = tf.constant([3, 4])
    draws = tf.random.stateless_uniform([6], rng).numpy()
    crop = random_crop(levels, 65, (1.0, 1.0), rng).numpy().astype(float)
    angle = np.degrees(crops.ANGLE * (2 * draws[2] - 1))
    upright = crop[:, ::-1] if draws[5] < 0.5 else crop
    angle = angle if draws[5] < 0.5 else -angle
    candidates = [ndimage.rotate(upright, sign * angle, reshape=False, order=1) for sign in (1, -1)]
    errors = [np.abs(each[20:45, 20:45] - picture[20:45, 20:45]).mean() for each in candidates]
    assert min(errors) < 3
    assert abs(angle) < 2 or max(errors) > 2 * min(errors)


def test_small_windows_are_enlarged_parts_of_the_picture():
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[:100], picture[100:] = 40, 200
    for number in range(20):
        crop = random_crop(pyramid(tf.constant(picture)), 24, (0.001, 0.002), tf.constant([1, number])).numpy()
        assert crop.shape == (24, 24, 3)
        assert set(np.unique(crop)) <= set(range(40, 201))


def test_windows_have_areas_of_the_range():
    """Count a gradient's range in crops: it tells how wide the window was."""
    picture = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    levels = pyramid(tf.constant(picture))
    spans = [np.ptp(random_crop(levels, 16, (0.01, 0.04), tf.constant([2, n])).numpy().astype(int)) for n in range(40)]
    # A window of 2% is 36 pixels wide; turned by 30 degrees and stretched, 20 to 75.
    assert min(spans) >= 15
    assert max(spans) <= 85
    assert np.ptp(spans) > 15
