"""The trainer with each optimizer and schedule: precision, devices, and what an interrupted run goes on with."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.recipes import build
from kcnn.training import epoch_end, phase_data, run
from kcnn.training.optimizers import OPTIMIZERS
from kcnn.training.run import TrainingData
from kcnn.training.schedules import SCHEDULES
from kcnn.training.trainer import train


@pytest.fixture
def data(monkeypatch):
    """Put 16 images of noise in the place of the data: what is tested is not how images are read."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (16, 8, 8, 3)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 16)]
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    monkeypatch.setattr(phase_data, "training_batches", lambda paths, **_: batches.repeat())
    monkeypatch.setattr(run, "evaluation_batches", lambda paths, **_: batches)
    monkeypatch.setattr(epoch_end.EpochEnd, "STATE_SHARE", float("inf"))  # keep the state after every epoch
    return TrainingData(["train"], ["val"], 16, 16, 4, 200, Preprocessing((8, 8)))


def network():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1, name="preprocess_rescale")(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, name="stem_conv")(x)
    x = keras.layers.BatchNormalization(name="stem_norm")(x)
    x = keras.layers.DepthwiseConv2D(3, name="stage1_depthwise", activation="relu")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(4, name="head_logits", dtype="float32")(x))


def settings(optimizer, epochs, patience=30, **fields):
    """Return a config with the rate and the decay that go with an optimizer, and with rates of stages."""
    config = build("scratch", optimizer=optimizer, batch_size=8)
    (phase,) = config.phases
    phase = dataclasses.replace(phase, epochs=epochs, rate_decay=0.7)
    return dataclasses.replace(config, phases=(phase,), patience=patience, **fields)


SLOW = pytest.mark.slow
EACH = [name if name in ("muon", "adafactor") else pytest.param(name, marks=SLOW) for name in OPTIMIZERS]


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("mixed_float16", marks=SLOW)])
def test_it_learns_sixteen_images_at_its_own_rate(data, tmp_path, name, dtype):
    progress = train(settings(name, 30, dtype=dtype), data, network, tmp_path)
    losses = [row["loss"] for row in progress.history]
    assert losses[-1] < 0.99 * losses[0]


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW) for name in OPTIMIZERS])
@pytest.mark.parametrize("dtype", ["float32", "mixed_float16"])
def test_a_resumed_run_ends_with_the_same_weights(data, tmp_path, name, dtype):
    resumes_exactly(data, tmp_path, settings(name, 3, dtype=dtype))


@pytest.mark.parametrize("schedule", [pytest.param(name, marks=SLOW) for name in SCHEDULES])
def test_a_resumed_run_has_the_same_rates(data, tmp_path, schedule):
    resumes_exactly(data, tmp_path, settings("momentum", 5, schedule=schedule))


def test_a_plateau_goes_on_where_it_was(data, tmp_path):
    """Weights that hardly move answer no better, so that every epoch after the first divides the rate by 10."""
    config = settings("sgd", 5, patience=4, schedule="plateau", weight_decay=0.0)
    (phase,) = config.phases
    config = dataclasses.replace(config, phases=(dataclasses.replace(phase, learning_rate=1e-12, warmup=0.0),))
    built, rates = [], []

    def build_and_keep():
        built.append(network())
        return built[-1]

    def interrupt(progress):
        rates.append(float(built[-1].optimizer.learning_rate))
        if len(progress.history) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, data, build_and_keep, tmp_path, after_epoch=interrupt)
    np.testing.assert_allclose(rates, [1e-12, 1e-12, 1e-13], rtol=1e-5)  # before the epoch's own division
    train(config, data, build_and_keep, tmp_path, after_epoch=lambda progress: None)
    assert float(built[-1].optimizer.learning_rate) == pytest.approx(1e-16, rel=1e-5)


def resumes_exactly(data, folder, config, stop_after=2):
    def interrupt(progress):
        if len(progress.history) == stop_after:
            raise KeyboardInterrupt

    whole = train(config, data, network, folder / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(config, data, network, folder / "resumed", after_epoch=interrupt)
    resumed = train(config, data, network, folder / "resumed", after_epoch=lambda progress: None)
    assert len(whole.history) == len(resumed.history)
    expected = load_file(folder / "whole" / "best.safetensors")
    for name, value in load_file(folder / "resumed" / "best.safetensors").items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
