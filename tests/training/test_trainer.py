"""Training on a small network and small data: phases, resuming, devices."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from kcnn.config import Config, Phase
from kcnn.data import examples
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import ingest
from kcnn.data.input_pipeline.batches import TrainingShards, evaluation_batches, view_batches
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.nn.normalization import BatchNorm
from kcnn.training import epoch_end, run, trainer
from kcnn.training.batch_norm import batch_norms, recalibrate_batch_norm, shorten_batch_norm_memory
from kcnn.training.divergence import largest_gradients
from kcnn.training.freezing import set_trainable, split_at_head
from kcnn.training.run import TrainingData
from kcnn.training.state import Progress, load_progress
from kcnn.training.trainer import train
from kcnn.weights import load_weights, save_weights


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    summary = ingest.ingest(open_dataset("digits"), folder)
    return TrainingData(
        train=examples.shard_paths(folder, "train"),
        val=examples.shard_paths(folder, "val"),
        train_count=summary.total("train"),
        val_count=summary.total("val"),
        classes=10,
        mean_bytes=summary.mean_bytes,
        preprocessing=Preprocessing((8, 8), crop_fraction=1.0),
    )


def network(norm=BatchNorm):
    """Build two convolutions and a head, named as kcnn's models name their layers."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1, name="preprocess_rescale")(inputs)
    x = keras.layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem_conv")(x)
    x = norm(name="stem_norm")(x) if norm else x
    x = keras.layers.ReLU(name="stem_act")(x)
    x = keras.layers.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="stage1_conv")(x)
    x = norm(name="stage1_norm")(x) if norm else x
    x = keras.layers.ReLU(name="stage1_act")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    x = keras.layers.Dropout(0.1, name="head_dropout")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head_logits")(x))


def config(*phases, **fields):
    return Config(recipe="test", phases=phases, **{"batch_size": 64, "patience": 50, **fields})


ALL = Phase("all", epochs=4, learning_rate=3e-3, crop_scale=(0.8, 1.0))


def weights(path):
    from safetensors.numpy import load_file

    return load_file(path)


def validation_accuracy(model, data):
    validation = evaluation_batches(data.val, num_classes=10, batch_size=64, preprocessing=data.preprocessing)
    return np.mean(np.concatenate([np.argmax(model(x), 1) == np.argmax(y, 1) for x, y in validation]))


def test_it_learns_and_keeps_the_best_epoch(digits, tmp_path):
    progress = train(config(ALL), digits, network, tmp_path)
    accuracies = [row["val_accuracy"] for row in progress.history]
    assert len(accuracies) == 4
    assert max(accuracies) > 0.8
    assert progress.best[0] == max(accuracies)
    assert list((tmp_path / "logs").rglob("events*"))
    model = network()
    load_weights(model, tmp_path / "best.safetensors")
    assert validation_accuracy(model, digits) == pytest.approx(max(accuracies))


def test_features_and_head_compose_to_the_model():
    model = network()
    images = np.random.default_rng(0).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
    backbone, head = split_at_head(model)
    np.testing.assert_allclose(head(backbone(images)), model(images), rtol=1e-5, atol=1e-5)
    assert not [layer.name for layer in head.layers if not layer.name.startswith("head_") and layer.weights]


@pytest.mark.parametrize(
    ("unfreeze", "batch_norm", "expected"),
    [
        (0, "train", {"head_logits"}),
        (1, "train", {"head_logits", "stage1_conv", "stage1_norm"}),
        (1, "frozen", {"head_logits", "stage1_conv"}),
        (None, "frozen", {"head_logits", "stage1_conv", "stem_conv"}),
        (None, "train", {"head_logits", "stage1_conv", "stage1_norm", "stem_conv", "stem_norm"}),
    ],
)
def test_what_trains(unfreeze, batch_norm, expected):
    model = network()
    set_trainable(model, unfreeze=unfreeze, batch_norm=batch_norm)
    assert {layer.name for layer in model.layers if layer.trainable_variables} == expected


def test_moving_statistics_fit_the_length_of_the_run():
    model = network()
    model.get_layer("stem_norm").trainable = False
    shorten_batch_norm_memory(model, steps=100_000)
    assert model.get_layer("stage1_norm").momentum == 0.99
    shorten_batch_norm_memory(model, steps=200)
    assert model.get_layer("stage1_norm").momentum == pytest.approx(0.9)
    shorten_batch_norm_memory(model, steps=3)
    assert model.get_layer("stage1_norm").momentum == pytest.approx(0.8)
    assert model.get_layer("stem_norm").momentum == 0.99


def test_too_many_stages():
    with pytest.raises(UserError, match=r"--unfreeze 3: the model has 2 stages \(stem, stage1\)"):
        set_trainable(network(), unfreeze=3, batch_norm="train")


def build_alike():
    """Build a network without dropout, whose draws depend on how many there were before."""
    keras.utils.set_random_seed(5)
    model = network()
    model.get_layer("head_dropout").rate = 0.0
    return model


TWO_PHASES = config(
    Phase("head", epochs=2, learning_rate=3e-3, unfreeze=0),
    Phase("all", epochs=3, learning_rate=3e-3, crop_scale=(0.8, 1.0)),
)


@pytest.fixture(scope="module")
def uninterrupted(digits, tmp_path_factory):
    """Train two phases: return progress, weights, and the whole network's accuracy when the head is solved."""
    folder = tmp_path_factory.mktemp("whole")
    built, seen = [], {}

    def build():
        built.append(build_alike())
        seen["before"] = built[-1].get_layer("stem_conv").kernel.numpy()
        return built[-1]

    def after_epoch(progress):
        if (progress.phase, progress.epoch) == (0, 1):
            seen["after"] = built[-1].get_layer("stem_conv").kernel.numpy()
            seen["accuracy"] = validation_accuracy(built[-1], digits)

    progress = train(TWO_PHASES, digits, build, folder, after_epoch=after_epoch)
    assert (folder / "features-train.npy").exists()
    return progress, weights(folder / "best.safetensors"), seen


def test_the_head_is_solved_on_features_computed_once(uninterrupted):
    """The accuracy on features is the whole network's, and the backbone stays what it is."""
    progress, _, seen = uninterrupted
    assert [row["phase"] for row in progress.history] == [0, 1, 1, 1]
    assert progress.history[0]["val_accuracy"] == pytest.approx(seen["accuracy"])
    np.testing.assert_array_equal(seen["before"], seen["after"])


@pytest.mark.slow  # tests/training/test_survival.py kills one in the default tests
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_an_interrupted_run_resumes_to_the_same_weights(digits, tmp_path, monkeypatch, uninterrupted, stop_after):
    """A run that is interrupted in a phase or between two ends as an uninterrupted one."""
    epochs = []
    end = trainer.EpochEnd.on_epoch_end

    def interrupt(self, epoch, logs=None):
        end(self, epoch, logs)
        epochs.append(epoch)
        if len(epochs) == stop_after:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer.EpochEnd, "STATE_SHARE", float("inf"))  # keep the state after every epoch
    with monkeypatch.context() as patch:
        patch.setattr(trainer.EpochEnd, "on_epoch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(TWO_PHASES, digits, build_alike, tmp_path)
    resumed = train(TWO_PHASES, digits, build_alike, tmp_path)
    whole, expected, _ = uninterrupted
    assert len(resumed.history) == len(whole.history) == 4
    for a, b in zip(whole.history, resumed.history, strict=True):
        assert a["val_loss"] == pytest.approx(b["val_loss"], abs=2e-3)
    found = weights(tmp_path / "best.safetensors")
    for name, value in expected.items():
        np.testing.assert_allclose(value, found[name], atol=5e-3, err_msg=name)


def small_network():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1, name="preprocess_rescale")(inputs)
    x = keras.layers.Conv2D(4, 3, strides=2, name="stem_conv")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head_logits", dtype="float32")(x))


def test_a_phase_that_makes_it_worse_is_discarded(digits, tmp_path, capsys):
    built = []

    def build():
        built.append(build_alike())
        return built[-1]

    ruin = Phase("all", epochs=1, learning_rate=2.0, warmup=0.0)
    progress = train(config(TWO_PHASES.phases[0], ruin), digits, build, tmp_path)
    assert [row["kept"] for row in progress.phases] == ["best", "before"]
    assert progress.best == (progress.history[0]["val_accuracy"], -progress.history[0]["val_loss"])
    kept = weights(tmp_path / "best.safetensors")
    np.testing.assert_array_equal(kept["stem_conv/kernel"], build_alike().get_layer("stem_conv").kernel.numpy())
    lines = capsys.readouterr().out.splitlines()
    assert f"Head: {progress.best[0]:.1%} of {digits.val_count} validation images" in lines[0]
    assert "no better" in lines[1]


def test_the_mean_of_two_weights_is_kept_where_it_is_better_than_both(in_memory, tmp_path):
    """The kernels before and after a phase are the right one with an error added, and with it taken away."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Flatten(name="head_flatten")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10, name="head_logits")(x))
    rng = np.random.default_rng(0)
    right, error = rng.normal(size=(2, 192, 10))
    batches = [
        (images, np.eye(10, dtype=np.float32)[(images.reshape(-1, 192) @ right).argmax(axis=1)])
        for images in rng.normal(size=(2, 32, 8, 8, 3)).astype(np.float32)
    ]
    under_way = run.TrainingRun(config(ALL), in_memory, model, tmp_path, Progress(), lambda progress: None, 0.0, None)
    under_way.validation = [tuple(map(tf.constant, batch)) for batch in batches]
    for path, kernel in ((under_way.before, right + 3 * error), (under_way.last, right - 3 * error)):
        model.set_weights([kernel, np.zeros(10)])
        save_weights(model, path)
    kept, (accuracy, _) = trainer._choose_weights(under_way)
    assert (kept, accuracy) == ("mean", 1.0)
    np.testing.assert_allclose(model.get_weights()[0], right, atol=1e-5)


def test_views_are_drawn_once_and_in_the_order_of_the_images(digits):
    shards = TrainingShards(digits.val, digits.val_count, digits.mean_bytes)

    def draw(views, **settings):
        settings = {"augmentations": ("flip",), "crop_scale": (0.3, 1.0), **settings}
        batches = view_batches(shards, num_classes=10, batch_size=64, preprocessing=digits.preprocessing,
                               seed=3, views=views, **settings)  # fmt: skip
        images, labels = zip(*batches.as_numpy_iterator(), strict=True)
        return np.concatenate(images), np.concatenate(labels)

    both, other = draw(range(1, 3)), draw(range(2, 3))
    one, two = np.split(both[0], 2)
    np.testing.assert_array_equal(two, other[0])
    np.testing.assert_array_equal(*np.split(both[1], 2))
    assert (one != two).any(axis=(1, 2, 3)).mean() > 0.9
    plain = evaluation_batches(digits.val, num_classes=10, batch_size=64, preprocessing=digits.preprocessing)
    whole = np.concatenate([images for images, _ in plain.as_numpy_iterator()])
    np.testing.assert_array_equal(draw(range(1, 2), augmentations=(), crop_scale=None)[0], whole)


def test_recalibrated_statistics_are_those_of_all_images(in_memory):
    batches = run.evaluation_batches([]).unbatch().batch(24)  # of 64 images, so that the last is smaller
    model = network()
    stem = keras.Model(model.input, model.get_layer("stem_conv").output)
    images = np.concatenate([images for images, _ in batches.as_numpy_iterator()])
    outputs = stem(images).numpy()
    recalibrate_batch_norm(model, batches.map(lambda images, _: images), batch_norms(model))
    norm = model.get_layer("stem_norm")
    np.testing.assert_allclose(norm.moving_mean, outputs.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, outputs.var(axis=(0, 1, 2)), rtol=2e-3)  # Bessel's correction
    assert norm.momentum == 0.99


def test_averages_of_the_weights_are_what_is_kept(in_memory, tmp_path):
    data, seen = dataclasses.replace(in_memory, val=[], val_count=0), []

    def build():
        keras.utils.set_random_seed(2)
        seen.append(small_network())
        return seen[-1]

    phase, steps = Phase("all", epochs=2, learning_rate=1e-2), []
    train(config(phase), data, build, tmp_path / "w", after_epoch=lambda _: steps.append(seen[0].get_weights()))
    train(config(phase, ema=0.7), data, build, tmp_path / "average")
    kept = weights(tmp_path / "average" / "best.safetensors")["stem_conv/kernel"]
    np.testing.assert_allclose(kept, 0.7 * steps[0][0] + 0.3 * steps[1][0], atol=1e-6)


# Without a learning rate the first epoch is the best.
STILL = config(Phase("all", epochs=9, learning_rate=0.0), Phase("more", epochs=2, learning_rate=0.0), patience=2)


def test_without_validation_images_the_last_epoch_counts(in_memory, tmp_path):
    data = dataclasses.replace(in_memory, val=[], val_count=0)
    phases = Phase("head", epochs=1, learning_rate=3e-3, unfreeze=0), Phase("all", epochs=1, learning_rate=3e-3)
    built = []

    def build():
        built.append(small_network())
        return built[-1]

    progress = train(config(*phases), data, build, tmp_path)
    assert progress.best == (0.0, 2.0)
    kept = weights(tmp_path / "best.safetensors")
    np.testing.assert_array_equal(kept["stem_conv/kernel"], built[0].get_layer("stem_conv").kernel.numpy())
    assert [row["kept"] for row in progress.phases] == ["best", "last"]


def test_early_stopping_ends_each_phase(in_memory, tmp_path):
    progress = train(STILL, in_memory, small_network, tmp_path)
    assert [(row["phase"], row["epoch"]) for row in progress.history] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    assert progress.best == (progress.history[0]["val_accuracy"], -progress.history[0]["val_loss"])


def test_patience_that_has_run_out_is_not_given_again_to_a_resumed_run(in_memory, tmp_path):
    def killed(progress):
        if progress.waited == STILL.patience:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(STILL, in_memory, small_network, tmp_path, after_epoch=killed)
    progress = train(STILL, in_memory, small_network, tmp_path)
    assert [(row["phase"], row["epoch"]) for row in progress.history] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]


def test_finished_training_is_not_repeated(in_memory, tmp_path, monkeypatch, capsys):
    first = train(STILL, in_memory, small_network, tmp_path)
    content = (tmp_path / "best.safetensors").read_bytes()

    def fit(*arguments, **options):
        raise AssertionError("an epoch more")

    monkeypatch.setattr(keras.Model, "fit", fit)
    seen = []
    assert train(STILL, in_memory, small_network, tmp_path, after_epoch=seen.append) == first
    assert seen == [first]  # for a caller that keeps the scores
    assert (tmp_path / "best.safetensors").read_bytes() == content
    assert "Resuming after 5 epochs" in capsys.readouterr().out


def test_seconds_are_those_of_all_processes(in_memory, tmp_path, monkeypatch):
    """The clock goes on by a second whenever it is read."""
    clock = iter(range(10**6))
    for module in (trainer, run):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: float(next(clock))))

    def killed(progress):
        if len(progress.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(trainer.EpochEnd, "STATE_SHARE", float("inf"))
    with pytest.raises(KeyboardInterrupt):
        train(STILL, in_memory, small_network, tmp_path, after_epoch=killed)
    before = load_progress(tmp_path / "state.safetensors").seconds
    assert before > 0
    for _ in range(10**5):  # the time between the processes does not count
        next(clock)
    after = train(STILL, in_memory, small_network, tmp_path).seconds
    assert before < after < 1000


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_the_programs_dtype_policy_stays(in_memory, tmp_path, dtype):
    settings = config(Phase("all", epochs=1, learning_rate=1e-3), dtype=dtype)
    seen = []

    def build():
        seen.append(small_network())
        return seen[-1]

    train(settings, in_memory, build, tmp_path / "well")
    assert seen[0].get_layer("stem_conv").dtype_policy.name == dtype
    scaled = isinstance(seen[0].optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (dtype == "mixed_float16")
    assert keras.config.dtype_policy().name == "float32"

    def broken():
        raise ValueError("no network")

    with pytest.raises(ValueError, match="no network"):
        train(settings, in_memory, broken, tmp_path / "broken")
    assert keras.config.dtype_policy().name == "float32"


def test_a_diverging_loss_is_the_users_to_mend(in_memory, tmp_path, monkeypatch):
    """The step is named, the rate, where whole weights are, and what has the largest gradients."""
    monkeypatch.setattr(epoch_end, "_LOOK_SECONDS", 0.0)
    settings = config(Phase("all", epochs=20, learning_rate=90.0, warmup=0.0), optimizer="sgd", weight_decay=0.0)
    with pytest.raises(UserError, match="--learning_rate") as error:
        train(settings, in_memory, small_network, tmp_path)
    message = str(error.value)
    assert re.search(r"the loss became (nan|inf) by step 1 of epoch \d+, at a learning rate of \d+", message)
    assert re.search(r"state.safetensors: step 0 of epoch \d+; the largest gradients .*: \S+/(kernel|bias) \d", message)
    saved = weights(tmp_path / "state.safetensors")
    assert all(np.isfinite(value).all() for name, value in saved.items() if name.startswith("model/"))


def test_the_largest_gradients_are_named():
    """Expect 2 (w x - y) x, the squared error's gradient; the second layer's inputs are 1000 times as large."""
    inputs = keras.Input((1,))
    small = keras.layers.Dense(1, kernel_initializer="ones", use_bias=False, name="small")(inputs)
    half = keras.initializers.Constant(0.5)
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer=half, name="large")(1000.0 * small))
    model.compile(loss="mse")
    found = largest_gradients(model, tf.constant([[1.0]]), tf.constant([[0.0]]))
    assert found == "large/kernel 1e+06, small/kernel 5e+05, large/bias 1e+03"


def train_on(devices, shards, count, directory, **settings):
    """Train on few images for two epochs, with and without random crops, over logical devices."""

    def build():
        keras.utils.set_random_seed(1)
        model = network(norm=lambda **kwargs: BatchNorm(synchronized=True, **kwargs))
        model.get_layer("head_dropout").rate = 0.0
        return model

    data = TrainingData(shards, shards, count, count, 10, 200, Preprocessing((8, 8)))
    phases = Phase("head", 1, 3e-3, unfreeze=0), Phase("all", 1, 3e-3, crop_scale=(0.8, 1.0))
    train(config(*phases, optimizer="sgd", **settings), data, build, Path(directory), devices=devices)


TWO_DEVICES = """
import json, sys, tensorflow as tf
cpu, twice = tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, twice)
sys.path.insert(0, "tests/training")
from test_trainer import train_on
settings, count, directory, *shards = sys.argv[1:]
train_on(["CPU:0", "CPU:1"], shards, int(count), directory, **json.loads(settings))
"""


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"l2": 1e-2, "clip_norm": 0.5, "max_norm": 0.8, "sam": 0.1, "ema": 0.7}, marks=pytest.mark.slow),
        pytest.param({"l1": 1e-3, "clip_adaptive": 0.02, "clip_weights": 0.1, "swa": 1}, marks=pytest.mark.slow),
        pytest.param({"clip_value": 1e-3, "smoothing_over": "others"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_two_devices_train_the_weights_that_one_does(digits, tmp_path, settings):
    given = (json.dumps(settings), str(digits.val_count), str(tmp_path / "two"))
    command = [sys.executable, "-c", TWO_DEVICES, *given, *digits.val]
    # The last batch leaves one device without images, and oneDNN's convolutions give no images a wrong shape.
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    train_on(["CPU:0"], digits.val, digits.val_count, tmp_path / "one", **settings)
    one, two = (weights(tmp_path / name / "best.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_allclose(value, two[name], atol=1e-4, err_msg=name)


def test_a_batch_that_does_not_divide_is_refused():
    from kcnn.training.distribution import check_batch_size

    class TwoDevices:
        num_replicas_in_sync = 2

    with pytest.raises(UserError, match="--batch_size 33: expected a multiple of the 2 devices; the nearest is 32"):
        check_batch_size(33, TwoDevices())
    check_batch_size(32, TwoDevices())
