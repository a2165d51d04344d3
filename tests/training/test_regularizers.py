"""Regularisers through the trainer, against the same training written plainly: a loop with Keras' AdamW."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file
from test_trainer import config, network, small_network

from kcnn.config import Phase
from kcnn.training import run, trainer
from kcnn.training.optimizers import BETA_2
from kcnn.training.schedules import warmup_cosine
from kcnn.training.state import load_progress
from kcnn.training.trainer import train
from kcnn.weights import load_weights

EPOCHS = 4  # of one step each
PHASE = Phase("all", epochs=EPOCHS, learning_rate=0.02)


def build(make):
    keras.utils.set_random_seed(7)
    model = make()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.8  # as the trainer has it in so short a training
    return model


def separable_network():
    """Build what small networks lack: a depthwise convolution, and a hidden dense layer."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 128, offset=-1, name="preprocess_rescale")(inputs)
    x = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, name="stem_depthwise")(x)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="stage1_conv")(x)
    x = keras.layers.Flatten(name="head_flatten")(x)
    x = keras.layers.Dense(16, activation="relu", name="head_fc")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="head_logits")(x))


def kernels_of(model):
    return [variable for variable in model.trainable_variables if variable.name == "kernel"]


def crossentropy(labels, logits):
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels, logits))


def gradients_of(model, loss):
    with tf.GradientTape() as tape:
        value = loss(model)
    return value, tape.gradient(value, model.trainable_variables)


def train_plainly(
    make,
    *,
    loss=crossentropy,
    penalty=lambda model: 0.0,
    treat=lambda gradients, model: gradients,
    gradients_of=gradients_of,
    after=lambda model: None,
):
    """Return the network after each step on the one batch in memory, and the losses."""
    model = build(make)
    images, labels = next(iter(run.evaluation_batches([])))
    optimizer = keras.optimizers.AdamW(warmup_cosine(0.02, EPOCHS, 0.1), weight_decay=0.0, beta_2=BETA_2)
    weights, losses = [], []

    def whole(model):
        return loss(labels, model(images, training=True)) + penalty(model)

    for _ in range(EPOCHS):
        value, gradients = gradients_of(model, whole)
        optimizer.apply(treat(gradients, model), model.trainable_variables)
        after(model)
        weights.append([variable.numpy() for variable in model.weights])
        losses.append(float(value))
    return weights, losses


def train_with_flags(data, directory, make, **settings):
    """Return the last epoch's weights and the history, with no validation images to choose another."""
    built = []

    def build_model():
        built.append(build(make))
        return built[-1]

    data = dataclasses.replace(data, val=[], val_count=0)
    settings = {"label_smoothing": 0.0, "weight_decay": 0.0, **settings}
    progress = train(config(PHASE, **settings), data, build_model, directory)
    return [variable.numpy() for variable in built[0].weights], progress.history


def elastic_net(l1, l2):
    return lambda model: sum(
        l1 * tf.reduce_sum(tf.abs(kernel.value)) + l2 * tf.reduce_sum(kernel.value**2) for kernel in kernels_of(model)
    )


def clip_norm(gradients, model):
    norm = np.sqrt(sum(np.sum(gradient.numpy() ** 2) for gradient in gradients))
    assert norm > 0.1
    return [gradient * (0.1 / norm) for gradient in gradients]


def clip_value(gradients, model):
    return [tf.constant(np.clip(gradient.numpy(), -1e-3, 1e-3)) for gradient in gradients]


def units_of(variable):
    """Return the index of each unit in a weight: an output, a channel and filter of it, or a vector as a whole."""
    if variable.ndim == 1:
        return [slice(None)]
    if "depthwise" in variable.path:
        return [(..., channel, filter_) for channel, filter_ in np.ndindex(*variable.shape[2:])]
    return [(..., unit) for unit in range(variable.shape[-1])]


def clip_units(gradients, model):
    """Follow Brock et al., equation 3; the kernel of the last layer, and its bias, are free."""
    clipped = []
    for gradient, variable in zip(gradients, model.trainable_variables, strict=True):
        g, w = gradient.numpy(), variable.numpy()
        for unit in [] if "head_logits" in variable.path else units_of(variable):
            size, limit = np.linalg.norm(g[unit]), 0.01 * max(np.linalg.norm(w[unit]), 1e-3)
            if size > limit:
                g[unit] *= limit / size
        clipped.append(tf.constant(g))
    return clipped


def limit_norms(model):
    for kernel in kernels_of(model):
        values = kernel.numpy()
        for unit in units_of(kernel):
            values[unit] *= min(1, 0.6 / np.linalg.norm(values[unit]))
        kernel.assign(values)


def limit_weights(model):
    for kernel in kernels_of(model):
        kernel.assign(np.clip(kernel.numpy(), -0.05, 0.05))


def sharpness_aware(model, loss):
    """Follow Foret et al., equations 2 and 3, by moving the weights there and back.

    The second pass begins with the seeds and the moving statistics that the first began with, and leaves none.
    """
    state = [variable.numpy() for variable in model.non_trainable_variables]
    value, gradients = gradients_of(model, loss)
    left = [variable.numpy() for variable in model.non_trainable_variables]
    for variable, old in zip(model.non_trainable_variables, state, strict=True):
        variable.assign(old)
    norm = np.sqrt(sum(np.sum(gradient.numpy() ** 2) for gradient in gradients))
    before = [variable.numpy() for variable in model.trainable_variables]
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        variable.assign_add(0.3 * gradient / norm)
    _, gradients = gradients_of(model, loss)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        variable.assign(old)
    for variable, new in zip(model.non_trainable_variables, left, strict=True):
        variable.assign(new)
    return value, gradients


def smoothed_over_others(labels, logits):
    others = 0.2 / (labels.shape[1] - 1)
    return crossentropy(labels * 0.8 + (1 - labels) * others, logits)


def smoothed_over_all(labels, logits):
    return crossentropy(labels * 0.8 + 0.2 / labels.shape[1], logits)


# Flags, the same written plainly, and the network: `small_network` unless another shows more.
CASES = {
    "l1": ({"l1": 0.01}, {"penalty": elastic_net(0.01, 0.0)}),
    "l2": ({"l2": 0.1}, {"penalty": elastic_net(0.0, 0.1)}),
    "elastic net": ({"l1": 0.01, "l2": 0.1}, {"penalty": elastic_net(0.01, 0.1)}),
    "clip_norm": ({"clip_norm": 0.1}, {"treat": clip_norm}),
    "clip_value": ({"clip_value": 1e-3}, {"treat": clip_value}),
    "clip_adaptive": ({"clip_adaptive": 0.01}, {"treat": clip_units}, separable_network),
    "max_norm": ({"max_norm": 0.6}, {"after": limit_norms}, separable_network),
    "clip_weights": ({"clip_weights": 0.05}, {"after": limit_weights}),
    "sam": ({"sam": 0.3}, {"gradients_of": sharpness_aware}, network),
    "over all": ({"label_smoothing": 0.2}, {"loss": smoothed_over_all}),
    "over others": ({"label_smoothing": 0.2, "smoothing_over": "others"}, {"loss": smoothed_over_others}),
}


@pytest.mark.parametrize("case", CASES)
def test_it_trains_as_the_same_written_plainly(in_memory, tmp_path, case):
    settings, plain, make = (*CASES[case], small_network)[:3]
    weights, losses = train_plainly(make, **plain)
    found, history = train_with_flags(in_memory, tmp_path, make, **settings)
    without, _ = train_plainly(make)
    np.testing.assert_allclose([row["loss"] for row in history], losses, rtol=2e-5)
    for got, expected in zip(found, weights[-1], strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-4)
    assert max(np.abs(a - b).max() for a, b in zip(without[-1], weights[-1], strict=True)) > 2e-3  # it does something


def test_the_loss_of_validation_images_is_without_penalties(in_memory, tmp_path):
    settings = config(PHASE, l1=0.1, l2=0.1, label_smoothing=0.0)
    progress = train(settings, in_memory, lambda: build(small_network), tmp_path)
    model = build(small_network)
    images, labels = next(iter(run.evaluation_batches([])))
    best = min(progress.history, key=lambda row: (-row["val_accuracy"], row["val_loss"]))
    load_weights(model, tmp_path / "best.safetensors")
    assert best["val_loss"] == pytest.approx(float(crossentropy(labels, model(images))), rel=1e-4)
    assert all(row["loss"] > row["val_loss"] + 1 for row in progress.history)


def averages(weights, momentum):
    """Return the exponential averages of the weights after each step."""
    found = [weights[0]]
    for row in weights[1:]:
        found.append([momentum * old + (1 - momentum) * new for old, new in zip(found[-1], row, strict=True)])
    return found


def test_averaged_weights_are_judged_and_kept_with_statistics_averaged_alike(in_memory, tmp_path):
    """Every epoch's validation loss is that of the averages, statistics included; so is what is kept."""
    weights, _ = train_plainly(network)
    settings = config(PHASE, ema=0.7, label_smoothing=0.0, weight_decay=0.0)
    progress = train(settings, in_memory, lambda: build(network), tmp_path)
    model = build(network)
    images, labels = next(iter(run.evaluation_batches([])))
    by_epoch = averages(weights, 0.7)
    for row, values in zip(progress.history, by_epoch, strict=True):
        model.set_weights(values)
        assert row["val_loss"] == pytest.approx(float(crossentropy(labels, model(images))), rel=1e-4)
    best = max(range(EPOCHS), key=lambda i: (progress.history[i]["val_accuracy"], -progress.history[i]["val_loss"]))
    load_weights(model, tmp_path / "best.safetensors")
    for found, expected in zip(model.get_weights(), by_epoch[best], strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-4)
    statistics = [index for index, variable in enumerate(model.weights) if "moving" in variable.name]
    assert len(statistics) == 4
    assert all(np.abs(by_epoch[-1][index] - weights[-1][index]).max() > 1e-3 for index in statistics)


@pytest.mark.parametrize("epochs", [2, 9])
def test_the_mean_of_the_last_epochs_is_kept_with_statistics_of_its_own(in_memory, tmp_path, epochs):
    weights, _ = train_plainly(network)
    train_with_flags(in_memory, tmp_path, network, swa=epochs)
    model = build(network)
    expected = [np.mean(values, axis=0) for values in zip(*weights[-epochs:], strict=True)]
    model.set_weights(expected)
    for norm in model.layers:
        if isinstance(norm, keras.layers.BatchNormalization):
            norm.momentum = 0.0
    images, _ = next(iter(run.evaluation_batches([])))
    model(images, training=True)  # one batch of all images
    expected = model.get_weights()
    load_weights(model, tmp_path / "best.safetensors")
    for variable, value in zip(model.weights, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-4, atol=2e-5, err_msg=variable.path)
    assert not list(tmp_path.glob("swa-*"))


def test_the_score_is_that_of_the_mean(in_memory, tmp_path):
    progress = train(config(PHASE, swa=2), in_memory, lambda: build(network), tmp_path)
    model = build(network)
    load_weights(model, tmp_path / "best.safetensors")
    images, labels = next(iter(run.evaluation_batches([])))
    logits = model(images).numpy()
    assert progress.phases[0]["kept"] == "swa"
    assert progress.best[0] == pytest.approx(np.mean(logits.argmax(1) == labels.numpy().argmax(1)))
    assert progress.best[1] == pytest.approx(-float(crossentropy(labels, logits)), rel=1e-5)


AVERAGED = {"ema": 0.7, "l2": 0.01, "clip_norm": 0.5, "max_norm": 1.0, "sam": 0.1}
MEAN = {"swa": 3, "clip_adaptive": 0.05}


@pytest.mark.parametrize(
    ("settings", "phases", "interruptions"),
    [
        (AVERAGED, 1, [2]),
        (MEAN, 1, [2]),
        pytest.param(AVERAGED, 2, [2, 4, 5], marks=pytest.mark.slow),
        pytest.param(MEAN, 2, [2, 4, 5], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_an_interrupted_run_ends_as_an_undisturbed_one(
    in_memory, tmp_path, monkeypatch, settings, phases, interruptions
):
    monkeypatch.setattr(trainer.EpochEnd, "STATE_SHARE", float("inf"))  # keep the state after every epoch
    more = [dataclasses.replace(PHASE, name="more", epochs=2)] * (phases - 1)
    settings, interruptions = config(PHASE, *more, **settings), [*interruptions]

    def run_on(directory, after_epoch=lambda progress: None):
        train(settings, in_memory, lambda: build(network), directory, after_epoch=after_epoch)
        return load_file(directory / "best.safetensors")

    def interrupt(progress):
        if len(progress.history) in interruptions:
            interruptions.remove(len(progress.history))
            raise KeyboardInterrupt

    undisturbed = run_on(tmp_path / "undisturbed")
    while interruptions:
        with pytest.raises(KeyboardInterrupt):
            run_on(tmp_path / "interrupted", interrupt)
    interrupted = run_on(tmp_path / "interrupted")
    assert load_progress(tmp_path / "interrupted" / "state.safetensors").epoch == 0
    for name, value in undisturbed.items():
        np.testing.assert_allclose(interrupted[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
