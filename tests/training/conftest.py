"""Data in memory, for tests of what happens around the epochs."""

import numpy as np
import pytest
import tensorflow as tf

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.training import phase_data, run
from kcnn.training.run import TrainingData


@pytest.fixture
def in_memory(monkeypatch):
    """Replace the data by 64 images of noise in memory, for tests of what happens around the epochs."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (64, 8, 8, 3)).astype(np.float32)
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 64)]
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(64)
    monkeypatch.setattr(phase_data, "training_batches", lambda paths, **_: batches.repeat())
    monkeypatch.setattr(run, "evaluation_batches", lambda paths, **_: batches)
    return TrainingData(["train"], ["val"], 64, 64, 10, 200, Preprocessing((8, 8)))
