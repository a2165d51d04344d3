"""Objectives: labels are classes, or by how much an image was turned."""

import numpy as np
import tensorflow as tf

from kcnn.data import examples
from kcnn.data.input_pipeline.batches import TrainingShards, evaluation_batches, training_batches
from kcnn.data.input_pipeline.objectives import OBJECTIVES
from kcnn.data.input_pipeline.transform import Preprocessing
from tests.shards import write

SPEC = Preprocessing((8, 8), crop_fraction=1.0)
COUNT = 64


def shards(tmp_path):
    """Write images of random pixels, all of class 9."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    rows = [
        examples.Example(tf.io.encode_png(image).numpy(), str(i), 9, "9", "PNG", 8, 8, str(i))
        for i, image in enumerate(pixels)
    ]
    return pixels, write(tmp_path, "train", rows)


def check(pixels, batches):
    """Check that every image is an original turned as its label says, with every turn, and return the labels."""
    originals = {image.tobytes() for image in pixels}
    seen, labels = [], []
    for images, one_hot in batches:
        assert one_hot.shape[1] == 4
        for image, turns in zip(np.round(images).astype(np.uint8), np.argmax(one_hot, 1), strict=True):
            seen.append(np.rot90(image, -turns).tobytes())
            labels.append(int(turns))
    assert set(seen) == originals
    assert len(seen) == COUNT
    assert set(labels) == {0, 1, 2, 3}
    return labels


def test_rotations_are_told_by_their_labels(tmp_path):
    pixels, paths = shards(tmp_path)
    settings = {"num_classes": 4, "batch_size": 16, "preprocessing": SPEC, "objective": "rotation"}

    def training(seed):
        batches = training_batches(
            TrainingShards(paths, COUNT, 100),
            augmentations=(),
            crop_scale=None,
            seed=seed,
            epochs=range(1),
            **settings,
        )
        return check(pixels, batches.as_numpy_iterator())

    assert training(0) == training(0)
    assert training(0) != training(1)
    first, again = (check(pixels, evaluation_batches(paths, **settings).as_numpy_iterator()) for _ in range(2))
    assert first == again


def test_classes_stay_what_they_are():
    image, label = OBJECTIVES.get("classes").function(tf.ones((2, 2, 3)), tf.constant(5), tf.constant([0, 0]))
    assert int(label) == 5
    np.testing.assert_array_equal(image, np.ones((2, 2, 3)))
