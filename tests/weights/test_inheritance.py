"""Inherited weights: what is copied, what is selected, and that the network answers."""

import keras
import numpy as np
import pytest

import kcnn
from kcnn.errors import UserError
from kcnn.training.batch_norm import recalibrate_batch_norm
from kcnn.weights.inheritance import inherit_weights


def randomised(name, size=32, classes=7, **design):
    """Build a network whose batch norm's scales, shifts and statistics are random."""
    model = kcnn.create_model(name, classes, size, **design)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            for variable in layer.weights:
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


@pytest.fixture(scope="module")
def teacher():
    return randomised("efficientnetlite0")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(2).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def heir(teacher):
    """Build a network that has inherited, and return it with the report."""
    student = kcnn.create_model("mobilenetv2", 7, 32)
    return student, inherit_weights(student, teacher)


def test_what_has_the_same_shape_is_copied(teacher, heir):
    student, report = heir
    assert report.loaded == sum("kernel" in variable.name for variable in student.trainable_variables)
    same = ["stem_conv", "stage1_block1_depthwise", "stage1_block1_project", "stage2_block1_expand"]
    same += ["stage2_block2_depthwise", "stage2_block2_project", "stage8_conv"]
    for name in [*same, *(f"{name}_norm" for name in same), "head_logits"]:
        for variable, other in zip(student.get_layer(name).weights, teacher.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(variable, other, err_msg=name)


def test_channels_are_selected_alike_wherever_they_are_written_or_read(teacher, heir):
    """Kernels of 5x5 become their middles, and the rows of one layer are the columns of the next."""
    student, _ = heir
    own, theirs = (
        {
            name: model.get_layer(f"stage3_block{name}").kernel.numpy()
            for name in ("1_depthwise", "1_project", "2_expand", "2_depthwise", "2_project")
        }
        for model in (student, teacher)
    )
    assert theirs["1_depthwise"].shape == (5, 5, 144, 1)
    np.testing.assert_array_equal(own["1_depthwise"], theirs["1_depthwise"][1:4, 1:4])  # all 144 are in both
    columns = [
        int(np.argmin(np.abs(theirs["1_project"][0, 0].T - column).sum(1))) for column in own["1_project"][0, 0].T
    ]
    assert len(set(columns)) == 32
    np.testing.assert_array_equal(own["1_project"][0, 0], theirs["1_project"][0, 0][:, columns])
    hidden = [
        int(np.argmin(np.abs(theirs["2_depthwise"][1:4, 1:4, :, 0] - own["2_depthwise"][..., [k], 0]).sum((0, 1))))
        for k in range(192)
    ]
    np.testing.assert_array_equal(own["2_expand"][0, 0], theirs["2_expand"][0, 0][np.ix_(columns, hidden)])
    np.testing.assert_array_equal(own["2_project"][0, 0], theirs["2_project"][0, 0][np.ix_(hidden, columns)])
    norm = "stage3_block2_project_norm"
    np.testing.assert_array_equal(student.get_layer(norm).beta, teacher.get_layer(norm).beta.numpy()[columns])


def test_a_block_that_the_teacher_lacks_is_the_identity(heir, images):
    student, _ = heir
    before, after = (student.get_layer(name).output for name in ("stage3_block2_add", "stage3_block3_add"))
    first, second = keras.Model(student.input, [before, after])(images)
    np.testing.assert_array_equal(first, second)


def test_a_network_of_the_same_design_answers_as_the_teacher(teacher, images):
    student = kcnn.create_model("efficientnetlite0", 7, 32)
    inherit_weights(student, teacher)
    np.testing.assert_allclose(student(images), teacher(images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mobilenetv2_0.35", "mobilenetv2_1.4"])
def test_narrower_and_wider_networks_answer_with_numbers(name, teacher, images):
    student = kcnn.create_model(name, 7, 32)
    inherit_weights(student, teacher)
    recalibrate_batch_norm(student, [images, 255 - images])
    assert np.isfinite(student(images)).all()
    assert student.get_layer("stem_conv_norm").momentum == 0.99


@pytest.mark.parametrize(("name", "other"), [("lenet5", "efficientnetlite0"), ("mobilenetv2", "lenet5")])
def test_other_networks_are_refused(name, other):
    student, teacher = kcnn.create_model(name, 7, 32), kcnn.create_model(other, 7, 32)
    before = [variable.numpy() for variable in student.variables]
    with pytest.raises(UserError, match=f"--weights teacher: {name} has not the stages of {other}"):
        inherit_weights(student, teacher)
    for variable, value in zip(student.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
