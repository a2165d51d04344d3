"""Distillation: the loss, the teacher, and a training that goes on exactly where it was."""

import dataclasses

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from safetensors.numpy import load_file

import kcnn
from kcnn.config import Phase
from kcnn.data import examples
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.models.factory import create_model
from kcnn.recipes import build
from kcnn.training.distillation import distillation_loss, load_teacher
from kcnn.training.run import TrainingData
from kcnn.training.trainer import train
from kcnn.weights import save_backbone, save_weights
from tests.shards import write

CLASSES, SIZE = 5, 32


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_scipys_divergence(temperature):
    rng = np.random.default_rng(0)
    teacher, student = rng.normal(0, 3, (2, 6, 10)).astype(np.float32)
    p, q = (scipy.special.softmax(logits.astype(float) / temperature, axis=1) for logits in (teacher, student))
    loss = distillation_loss(temperature)
    expected = temperature**2 * scipy.stats.entropy(p, q, axis=1)
    np.testing.assert_allclose(loss(tf.constant(teacher), tf.constant(student)), expected, rtol=1e-4)
    np.testing.assert_allclose(loss(tf.constant(teacher), tf.constant(teacher) + 1), 0, atol=1e-5)


def teacher():
    """Build a network whose weights are the same each time."""
    model = create_model("lenet5", CLASSES, SIZE)
    rng = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.1, variable.shape))
    return model


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = {}
    for seed, split in enumerate(("train", "val")):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (3, 50, 60, 3), dtype=np.uint8)
        rows = [
            examples.Example(tf.io.encode_png(image).numpy(), str(n), 0, "x", "PNG", 50, 60, str(n))
            for n, image in enumerate(pixels)
        ]
        paths[split] = write(folder, split, rows)
    return TrainingData(paths["train"], paths["val"], 3, 3, CLASSES, 9000, Preprocessing((SIZE, SIZE)))


def settings(epochs, rate=0.01):
    config = build("distill", model="lenet5", teacher="lenet5", crops=64, batch_size=16, image_size=SIZE)
    phase = Phase("all", epochs, rate, augmentations=("colour",), crop_scale=(0.05, 1.0))
    return dataclasses.replace(config, phases=(phase,))


def test_a_student_that_is_the_teacher_has_nothing_to_learn(pictures, tmp_path):
    progress = train(settings(1, 1e-9), pictures, teacher, tmp_path, build_teacher=teacher)
    (epoch,) = progress.history
    assert epoch["loss"] == pytest.approx(0, abs=1e-5)
    assert epoch["val_loss"] == pytest.approx(0, abs=1e-5)
    assert epoch["val_accuracy"] == 1


def student():
    return create_model("lenet5", CLASSES, SIZE)


class Killed(Exception):
    pass


@pytest.mark.slow
def test_an_interrupted_distillation_goes_on_to_the_same_weights(pictures, tmp_path):
    config = settings(3)
    whole = train(config, pictures, student, tmp_path / "whole", build_teacher=teacher)
    assert whole.history[-1]["val_loss"] < whole.history[0]["val_loss"]

    def kill(progress):
        if len(progress.history) == 2:
            raise Killed

    with pytest.raises(Killed):
        train(config, pictures, student, tmp_path / "parts", build_teacher=teacher, after_epoch=kill)
    resumed = train(config, pictures, student, tmp_path / "parts", build_teacher=teacher)
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in each.history] for each in (whole, resumed)]
    assert rows[0] == rows[1]
    first, second = (load_file(tmp_path / name / "best.safetensors") for name in ("whole", "parts"))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])


def test_a_teachers_file_needs_a_classifier_of_the_same_classes(tmp_path):
    model = kcnn.create_model("lenet5", CLASSES, SIZE)
    save_weights(model, tmp_path / "whole.safetensors")
    save_backbone(model, tmp_path / "backbone.safetensors")
    config = build("distill", teacher="lenet5")

    def load(name, classes):
        return load_teacher(dataclasses.replace(config, teacher_weights=str(tmp_path / name)), classes, SIZE)

    images = np.random.default_rng(0).uniform(0, 255, (2, SIZE, SIZE, 3)).astype(np.float32)
    np.testing.assert_array_equal(load("whole.safetensors", CLASSES)(images), model(images))
    for name, classes in (("whole.safetensors", 1000), ("backbone.safetensors", CLASSES)):
        with pytest.raises(UserError, match=f"with a classifier of {classes} classes, and this file has another"):
            load(name, classes)
