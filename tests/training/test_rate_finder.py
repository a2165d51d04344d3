"""The rate finder's curve, and what it reads."""

import keras
import numpy as np
import pytest

from kcnn.config import Config, Phase
from kcnn.data import examples
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import ingest
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.training.rate_finder import RateCurve, find_rate
from kcnn.training.run import TrainingData

RATES = np.geomspace(1e-5, 1.0, 300)


def curve(losses):
    noise = np.random.default_rng(0).normal(0, 0.1, len(RATES))
    return RateCurve(RATES.tolist(), (losses + noise).tolist())


def test_half_of_the_rate_with_the_lowest_loss_is_suggested():
    """A valley at 0.01 in noise."""
    found = curve(2.3 - np.exp(-0.5 * (np.log(RATES / 0.01) / 1.5) ** 2))
    assert found.lowest == pytest.approx(0.01, rel=0.4)
    assert found.suggested == found.lowest / 2


def test_what_a_loss_comes_to_after_an_explosion_does_not_count():
    valley = 2.3 - 0.5 * np.exp(-0.5 * (np.log(RATES / 1e-3) / 1.5) ** 2)
    found = curve(np.where(RATES < 0.02, valley, np.where(RATES < 0.2, 9.0, 0.5)))
    assert found.lowest == pytest.approx(1e-3, rel=0.5)


def build():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1, name="preprocess_rescale")(inputs)
    x = keras.layers.Conv2D(16, 3, name="stem_conv", activation="relu")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head_logits")(x))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Digits, of which the validation shards do not exist: whatever reads them fails."""
    folder = tmp_path_factory.mktemp("digits")
    summary = ingest.ingest(open_dataset("digits"), folder)
    shards, count = examples.shard_paths(folder, "train"), summary.total("train")
    preprocessing = Preprocessing((8, 8), crop_fraction=1.0)
    return TrainingData(shards, ["gone.tfrecord"], count, 100, 10, summary.mean_bytes, preprocessing)


def test_the_loss_falls_and_then_explodes(data, tmp_path):
    phase = Phase("all", epochs=1, learning_rate=0.1, crop_scale=(0.8, 1.0))
    config = Config(recipe="test", phases=(phase,), batch_size=32, optimizer="momentum", weight_decay=0.0)
    found = find_rate(config, data, build, tmp_path, steps=120)
    assert found.rates[0] == pytest.approx(1e-4)
    assert found.smoothed[0] == pytest.approx(np.log(10), rel=0.2)  # of chance
    assert found.smoothed.min() < 0.7 * found.smoothed[0]
    assert 3e-3 < found.lowest < 1.0
    assert len(found.losses) < 120  # it ended early


def test_a_solved_head_has_no_rate(data, tmp_path):
    phase = Phase("head", epochs=1, learning_rate=0.1, unfreeze=0)
    with pytest.raises(UserError, match="a head on frozen features is solved"):
        find_rate(Config(recipe="test", phases=(phase,)), data, build, tmp_path, steps=20)
