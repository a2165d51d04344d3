"""Inherited weights: what is copied, what is solved, and that the network answers."""

import re
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.linear_model import LinearRegression

import kcnn
from kcnn.errors import UserError
from kcnn.weights import inheritance
from kcnn.weights.inheritance import check_heir, inherit_weights


@pytest.fixture(scope="module", autouse=True)
def all_windows():
    """Look at every position of the few images."""
    with mock.patch.object(inheritance, "_WINDOWS", 1e6):
        yield


def randomised(name, size=32, classes=7, **design):
    """Build a network whose batch norm's scales, shifts and statistics are random."""
    model = kcnn.create_model(name, classes, size, **design)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def noise(count, size=32, seed=2):
    """Draw images whose large and small shapes are random."""
    rng = np.random.default_rng(seed)
    images = sum(
        tf.image.resize(rng.uniform(0, 255, (count, side, side, 3)), (size, size)).numpy() for side in (2, 4, 8, 16)
    )
    return (images / 4).astype(np.float32)


@pytest.fixture(scope="module")
def teacher():
    return randomised("efficientnetlite0")


@pytest.fixture(scope="module")
def images():
    return noise(64)


@pytest.fixture(scope="module")
def heir(teacher, images):
    """Build a network that has inherited, and return it with the report."""
    student = kcnn.create_model("mobilenetv2", 7, 32)
    return student, inherit_weights(student, teacher, np.split(images, 4))


def test_layers_are_copied_up_to_the_first_that_differs(teacher, heir):
    student, report = heir
    assert report.loaded == sum("kernel" in variable.name for variable in student.trainable_variables)
    same = ["stem_conv", "stage1_block1_depthwise", "stage1_block1_project", "stage2_block1_expand"]
    same += ["stage2_block2_depthwise", "stage2_block2_project", "stage3_block1_expand"]
    for name in [*same, *(f"{name}_norm" for name in same), "head_logits"]:
        for variable, other in zip(student.get_layer(name).weights, teacher.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(variable, other, err_msg=name)


def test_a_layer_is_as_good_as_scikit_learns_regression(teacher, heir, images):
    """It goes from what the student gives to it to what the teacher gives at its place, as the activation sees it."""
    student, _ = heir
    name = "stage4_block1_expand"
    wanted = keras.Model(teacher.input, teacher.get_layer(f"{name}_norm").output)(images)
    given = student.get_layer(name).input, student.get_layer(f"{name}_norm").output
    x, found, y = (
        np.asarray(each).reshape(-1, each.shape[-1]) for each in (*keras.Model(student.input, given)(images), wanted)
    )
    # Which 192 of the 240 channels were chosen.
    chosen = [int(np.argmin(np.square(y - column[:, None]).mean(0))) for column in found.T]
    assert len(set(chosen)) > 180
    best = LinearRegression().fit(x, y[:, chosen]).predict(x)
    lost, least = (np.square(np.clip(each, 0, 6) - np.clip(y[:, chosen], 0, 6)).mean() for each in (found, best))
    assert lost < least


def test_the_statistics_are_those_of_the_images(heir, images):
    student, _ = heir
    for name in ("stage3_block1_depthwise", "stage5_block2_project", "stage8_conv"):
        layer, norm = student.get_layer(name), student.get_layer(f"{name}_norm")
        values = keras.Model(student.input, layer.output)(images).numpy()
        np.testing.assert_allclose(norm.moving_mean, values.mean((0, 1, 2)), atol=2e-2 * values.std())
        np.testing.assert_allclose(norm.moving_variance, values.var((0, 1, 2)), rtol=0.02, atol=1e-3 * values.var())


def test_solved_kernels_are_as_large_as_random_ones(heir):
    """The usual learning rates are for these."""
    student, _ = heir
    for name in ("stage3_block1_depthwise", "stage5_block2_expand", "stage5_block2_project", "stage8_conv"):
        kernel = student.get_layer(name).kernel.numpy()
        inputs = 9 if "depthwise" in name else kernel.shape[2]
        assert np.sqrt(np.square(kernel).mean()) == pytest.approx(np.sqrt(2 / inputs), rel=1e-3)


@pytest.mark.slow
def test_what_the_student_can_hold_it_holds():
    """Inherit from a teacher of which only as many channels, kernel positions and blocks count as the student has."""
    student, teacher = kcnn.create_model("mobilenetv2", 7, 64), randomised("efficientnetlite0", 64)
    layers = {layer.name: layer for layer in student.layers}
    for layer in teacher.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D) and layer.kernel_size == (5, 5):
            layer.kernel.assign(np.pad(layer.kernel.numpy()[1:4, 1:4], ((1, 1), (1, 1), (0, 0), (0, 0))))
        if layer.name.endswith(("depthwise_norm", "project_norm")):
            like = layer.name if layer.name in layers else re.sub("block.", "block2", layer.name)
            count = 0 if layer.name == "stage6_block3_project_norm" else layers[like].gamma.shape[0]
            for variable in (layer.gamma, layer.beta):
                variable.assign(np.where(np.arange(variable.shape[0]) < count, variable.numpy(), 0))
    inherit_weights(student, teacher, np.split(noise(96, 64), 4))
    fresh = noise(16, 64, seed=3)
    # The student's channels are mixtures of the teacher's. Later layers have more weights than these images positions.
    found, expected = (
        keras.Model(model.input, model.get_layer("stage5_block1_expand").input)(fresh).numpy().reshape(-1, channels)
        for model, channels in ((student, 64), (teacher, 80))
    )
    unmixed = LinearRegression().fit(found, expected).predict(found)
    assert np.square(unmixed - expected).mean() < 0.01 * expected.var(axis=0).mean()


def test_a_network_of_the_same_design_answers_as_the_teacher(teacher, images):
    student = kcnn.create_model("efficientnetlite0", 7, 32)
    inherit_weights(student, teacher, [images])
    np.testing.assert_allclose(student(images), teacher(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mobilenetv2_0.35", pytest.param("mobilenetv2_1.4", marks=pytest.mark.slow)])
def test_narrower_and_wider_networks_answer_with_numbers(name, teacher, images):
    student = kcnn.create_model(name, 7, 32)
    inherit_weights(student, teacher, [images])
    assert np.isfinite(student(images)).all()
    assert student.get_layer("stem_conv_norm").momentum == 0.99


@pytest.mark.parametrize(("name", "other"), [("lenet5", "efficientnetlite0"), ("mobilenetv2", "lenet5")])
def test_other_networks_are_refused(name, other):
    student, teacher = kcnn.create_model(name, 7, 32), kcnn.create_model(other, 7, 32)
    with pytest.raises(UserError, match=f"--weights teacher: {name} has not the stages of {other}"):
        check_heir(student, teacher)


def test_a_network_without_batch_norm_is_refused(teacher):
    with pytest.raises(UserError, match="has not the stages"):
        check_heir(kcnn.create_model("mobilenetv2", 7, 32, norm="none"), teacher)
