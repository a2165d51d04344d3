"""The trainer with each optimizer and schedule: precision, devices, and what an interrupted run goes on with."""

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.recipes import build
from kcnn.training import epoch_end, phase_data, run
from kcnn.training.optimizers import OPTIMIZERS, build_optimizer
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
    config = settings("sgd", 5, patience=4, schedule="plateau", weight_decay=0.0, batch_norm="frozen")
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


def apply_thrice(name):
    """Return the weights after three steps whose gradients differ between replicas, by the strategy in scope."""
    strategy = tf.distribute.get_strategy()
    model = network()
    multipliers = {variable.path: 0.5 for variable in model.trainable_variables[:2]}
    optimizer = build_optimizer(name, model, schedule=0.01, weight_decay=0.1, multipliers=multipliers)

    @tf.function
    def step(number):
        def one():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            seeds = [(number, index) for index in range(len(model.trainable_variables))]
            # The sum over the replicas is the same, however many there are.
            share = tf.where(strategy.num_replicas_in_sync == 1, 1.0, tf.where(replica == 0, 0.2, 0.8))
            optimizer.apply(
                [
                    share * tf.random.stateless_normal(variable.shape, seed)
                    for variable, seed in zip(model.trainable_variables, seeds, strict=True)
                ]
            )

        strategy.run(one)

    for number in range(3):
        step(tf.constant(number))
    return {str(index): value for index, value in enumerate(model.get_weights())}


TWO_DEVICES = """
import sys, tensorflow as tf
cpu, twice = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, twice)
sys.path.insert(0, "tests/training")
from safetensors.numpy import save_file
from test_optimizers_in_training import apply_thrice
for name in sys.argv[2:]:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        save_file(apply_thrice(name), f"{sys.argv[1]}/{name}.safetensors")
"""


@pytest.mark.slow
def test_two_devices_update_as_one_does(tmp_path):
    command = [sys.executable, "-c", TWO_DEVICES, str(tmp_path), *OPTIMIZERS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-2000:]
    for name in OPTIMIZERS:
        two = load_file(tmp_path / f"{name}.safetensors")
        for index, value in apply_thrice(name).items():
            np.testing.assert_allclose(two[index], value, rtol=1e-4, atol=1e-6, err_msg=name)
