"""What a phase is fitted to, where its images are smaller than those of evaluation."""

import dataclasses
import time

import keras
import numpy as np
import pytest
from test_trainer import config, digits, network  # noqa: F401  (a fixture)

import kcnn
from kcnn.config import Phase
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.training.phase_data import phase_data, training_size
from kcnn.training.run import TrainingRun
from kcnn.training.state import Progress
from tests.models.networks import SMALLEST


@pytest.mark.parametrize(
    ("size", "ratio", "expected"),
    [
        ((224, 224), 0.7, (160, 160)),
        ((128, 96), 0.7, (96, 64)),
        ((64, 64), 0.7, (64, 64)),
        ((8, 8), 0.7, (8, 8)),
        ((100, 100), 1.0, (100, 100)),
    ],
)
def test_sizes_in_steps(size, ratio, expected):
    inputs = keras.Input((*size, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    assert training_size(size, ratio, model, 32) == expected
    assert training_size((96, 96), 0.7, model, 75) == (75, 75)


def test_a_head_of_positions_keeps_its_size():
    assert training_size((224, 224), 0.7, network(), 32) == (224, 224)


def under_way(digits, tmp_path, epochs, progress):  # noqa: F811
    model = kcnn.create_model("mobilenetv2_0.35", 10, 96)
    phase = Phase("all", epochs, 1e-3, crop_scale=(0.5, 1.0), size_ratio=0.7)
    data = dataclasses.replace(digits, preprocessing=Preprocessing((96, 96)), train_count=128)
    run = TrainingRun(config(phase), data, model, tmp_path, progress, lambda _: None, time.monotonic(), None)
    return model, *phase_data(run, phase)


def test_the_same_weights_take_smaller_images(digits, tmp_path):  # noqa: F811
    model, fitted, batches, validation = under_way(digits, tmp_path, 1, Progress())
    assert next(iter(batches()))[0].shape == (64, 64, 64, 3)
    assert next(iter(validation))[0].shape == (64, 96, 96, 3)
    for one, other in zip(fitted.variables, model.variables, strict=True):
        assert one is other
    images = np.random.default_rng(0).uniform(0, 255, (2, 96, 96, 3)).astype(np.float32)
    np.testing.assert_array_equal(fitted(images), model(images))
    smaller = kcnn.create_model("mobilenetv2_0.35", 10, 64)
    smaller.set_weights(model.get_weights())
    np.testing.assert_array_equal(fitted(images[:, :64, :64]), smaller(images[:, :64, :64]))


@pytest.mark.parametrize(
    ("progress", "sizes"),
    [
        pytest.param(Progress(), [64, 64, 64, 64, 96, 96], marks=pytest.mark.slow),
        (Progress(epoch=1, step=1), [64, 96, 96]),
        pytest.param(Progress(epoch=2, step=1), [96], marks=pytest.mark.slow),
    ],
    ids=["from the start", "within the small", "within the large"],
)
def test_images_grow_for_the_last_third_of_the_epochs(digits, tmp_path, progress, sizes):  # noqa: F811
    """Three epochs of two steps; a resumed run sees the rest of what the whole one sees."""
    _, _, batches, _ = under_way(digits, tmp_path, 3, progress)
    seen = [images.numpy() for images, _ in batches()]
    assert [images.shape[1] for images in seen] == sizes
    _, _, whole, _ = under_way(digits, tmp_path, 3, Progress())
    for images, (expected, _) in zip(reversed(seen), reversed(list(whole())), strict=False):
        np.testing.assert_array_equal(images, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST.values())
def test_every_family_takes_smaller_images_or_keeps_its_size(name):
    model, least = kcnn.create_model(name, 10, 224), kcnn.model_spec(name).min_size
    size = training_size((224, 224), 0.7, model, least)
    if size == (224, 224):
        return
    any_size = keras.models.clone_model(model, keras.Input((None, None, 3)), clone_function=lambda layer: layer)
    smaller = kcnn.create_model(name, 10, size)
    smaller.set_weights(model.get_weights())
    images = np.random.default_rng(0).uniform(0, 255, (1, *size, 3)).astype(np.float32)
    np.testing.assert_allclose(any_size(images), smaller(images), rtol=1e-5, atol=1e-5)
