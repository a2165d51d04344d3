"""Weights are for a design: what files say of it, and which networks are refused."""

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import kcnn
from kcnn.errors import UserError
from kcnn.weights import load_weights, save_backbone, save_weights
from kcnn.weights.designs import describe_layers

NAME = "mobilenetv2_0.35"
# Design arguments whose networks take each other's weights by shape, and what the message names.
OTHER_DESIGNS = [
    ({}, {"activation": "tanh"}, "activation of layer stem_conv_act is 'relu' in the file's network"),
    ({}, {"norm_epsilon": 1e-3}, "epsilon of layer stem_conv_norm is 1e-05 in the file's network"),
    ({}, {"padding": "same"}, "the file's network alone has a layer stage2_block1_conv1_pad"),
    ({"norm": "layer"}, {"norm": "group"}, "groups of layer stem_conv_norm is 1 in the file's network and 16"),
    ({}, {"preprocessing": "tf"}, "scale of layer preprocess_rescale is [0.0171"),
    ({}, {"preprocessing": "none"}, "the file's network alone has a layer preprocess_rescale"),
]
# Design arguments that make no difference to what trained weights answer.
SAME_DESIGNS = [
    ("resnet20_cifar", {"dropout": 0.3, "drop_path": 0.2, "bn_momentum": 0.9, "kernel_initializer": "he_uniform"}),
    ("resnet20_cifar", {"norm": "sync_batch"}),
    ("resnet20_cifar", {"dropblock": 0.1, "dropconnect": 0.2}),
    ("googlenet", {"aux_heads": True}),
]


@pytest.fixture(autouse=True)
def clean():
    yield
    keras.backend.clear_session()


def build(name=NAME, **design):
    return kcnn.create_model(name, 3, 32, **design)


def save(model, path):
    {".safetensors": save_weights, ".keras": keras.Model.save, ".h5": keras.Model.save_weights}[path.suffix](
        model, path
    )


@pytest.mark.parametrize("ending", [".safetensors", ".keras"])
@pytest.mark.parametrize(("design", "other", "message"), OTHER_DESIGNS)
def test_weights_of_another_design_are_refused(design, other, message, ending, tmp_path):
    path = tmp_path / f"w{ending}"
    save(build("resnet20_cifar", **design), path)
    model = build("resnet20_cifar", **other)
    before = model.get_weights()
    with pytest.raises(UserError, match="are for another design: ") as error:
        load_weights(model, path)
    assert message in str(error.value)
    assert repr(str(path)) in str(error.value)
    assert "\n" not in str(error.value)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("ending", [".safetensors", ".keras"])
@pytest.mark.parametrize(("name", "other"), SAME_DESIGNS)
def test_what_answers_the_same_takes_the_weights(name, other, ending, tmp_path):
    path = tmp_path / f"w{ending}"
    model = build(name)
    save(model, path)
    again = build(name, **other)
    load_weights(again, path)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    answers = again(images)
    np.testing.assert_allclose(
        answers[0] if isinstance(answers, list) else answers, model(images), rtol=1e-4, atol=1e-4
    )


def test_a_row_with_the_same_shapes_and_other_arithmetic_is_refused(tmp_path):
    save_weights(build("mobilenetv2_0.35"), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="are for another design"):
        load_weights(build("mobilenetv2_0.35.torch"), tmp_path / "w.safetensors")


def test_weights_alone_do_not_say_their_design_and_the_report_names_what_is_not_checked(tmp_path):
    path = tmp_path / "w.weights.h5"
    build().save_weights(path)
    assert load_weights(build(dropout=0.3), path).remarks == ()
    report = load_weights(build(activation="tanh", norm="sync_batch", preprocessing="torch"), path)
    assert report.remarks == ("nothing says whether they are for activation='tanh', preprocessing='torch'",)
    assert str(report).endswith(f"; {report.remarks[0]}")
    with pytest.warns(UserWarning, match="nothing says whether they are for activation='tanh'"):
        kcnn.create_model("mobilenetv2_0.35", 5, 32, weights=path, activation="tanh")


def test_older_files_of_this_project_do_not_say_it_either(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(build(), path)
    save_file(load_file(path), path)  # without metadata
    assert load_weights(build(activation="tanh"), path).remarks == (
        "nothing says whether they are for activation='tanh'",
    )


def test_published_weights_are_for_the_default_design():
    theirs = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, weights=None, classes=3)
    load_weights(build(dropout=0.5, preprocessing="torch"), theirs)
    for source in (theirs, "imagenet"):
        with pytest.raises(UserError, match="default design, activation='relu6', and this one has activation='tanh'"):
            load_weights(build(activation="tanh"), source, offline=True)


def test_a_backbones_file_says_its_design(tmp_path):
    path = tmp_path / "b.safetensors"
    save_backbone(build(), path)
    with safe_open(path, "numpy") as file:
        assert set(file.metadata()) == {"layers"}
    with pytest.raises(UserError, match="activation of layer stem_conv_act is 'relu6'"):
        load_weights(build(activation="relu"), path)


def test_starters_are_refused_by_name_of_the_argument():
    with pytest.raises(UserError, match="default design, norm='batch', and this one has norm='layer'"):
        load_weights(build("mobilenetv2", norm="layer"), "starter")


def test_a_network_from_a_file_is_compared_too(tmp_path):
    model = build()
    model.save(tmp_path / "w.keras")
    again = keras.saving.load_model(tmp_path / "w.keras")
    assert describe_layers(again) == describe_layers(model)
    save_weights(again, tmp_path / "w.safetensors")
    load_weights(build(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="another design"):
        load_weights(build(activation="tanh"), tmp_path / "w.safetensors")


def test_networks_of_other_makers_load_as_before(tmp_path):
    inputs = keras.Input((4,))
    models = [keras.Model(inputs, keras.layers.Dense(2, name="answer")(inputs), name="other") for _ in range(2)]
    models[0].save_weights(tmp_path / "w.weights.h5")
    load_weights(models[1], tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(*(model.get_weights()[0] for model in models))


@pytest.mark.parametrize(
    ("kept", "wanted", "message"),
    [
        ("none", "mean", r"layer preprocess_mean takes \[\[3\]\], the file has no such layer"),
        ("mean", "none", "it has no layer preprocess_mean"),
        ("mean", "standardize", "layer preprocess_deviation takes"),
        ("pca", "zca", "layer preprocess_zca takes"),
        ("mean_image", "zca", "layer preprocess_zca takes"),
    ],
)
def test_weights_of_another_fitted_preprocessing_are_refused(kept, wanted, message, tmp_path):
    save_weights(kcnn.create_model("resnet20_cifar", 3, 8, preprocessing=kept), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=message) as error:
        kcnn.create_model("resnet20_cifar", 3, 8, tmp_path / "w.safetensors", preprocessing=wanted)
    assert "\n" not in str(error.value)


def test_weights_that_others_published_are_for_no_preprocessing_that_is_fitted(tmp_path):
    model = kcnn.create_model(NAME, 3, 32, preprocessing="mean")
    with pytest.raises(UserError, match="default design, preprocessing='tf', and this one has preprocessing='mean'"):
        load_weights(model, "starter")
    kernels = {"features.0.weight": np.zeros((96, 3, 11, 11), np.float32)}
    save_file(kernels, tmp_path / "torch.safetensors")
    with pytest.raises(UserError, match=r"do not fit alexnet\.torch"):
        load_weights(kcnn.create_model("alexnet.torch", 3, 64, preprocessing="mean"), tmp_path / "torch.safetensors")
    with pytest.raises(UserError, match="default design, preprocessing='tf'"):
        load_weights(
            kcnn.create_model("mobilenet", 3, 32, preprocessing="mean"),
            keras.applications.MobileNet(weights=None, input_shape=(32, 32, 3), classes=3),
        )


def test_the_numbers_of_a_fitted_preprocessing_come_with_the_weights(tmp_path):
    first = kcnn.create_model("resnet20_cifar", 3, 8, preprocessing="zca", channels=1)
    random = np.random.default_rng(0)
    for variable in first.weights:
        variable.assign(random.uniform(1, 250, variable.shape))
    for save_, name in ((save_weights, "w.safetensors"), (save_backbone, "b.safetensors")):
        save_(first, tmp_path / name)
        second = kcnn.create_model("resnet20_cifar", 3, 8, tmp_path / name, preprocessing="zca", channels=1)
        for layer in ("preprocess_mean_image", "preprocess_zca"):  # a backbone's other weights are in float16
            np.testing.assert_array_equal(second.get_layer(layer).weights[0], first.get_layer(layer).weights[0])
