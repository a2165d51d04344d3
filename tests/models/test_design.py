"""Design arguments: every value is checked by its type and its range before anything is built."""

import keras
import numpy as np
import pytest
from networks import SPECS, small

import kcnn
from kcnn.errors import UserError
from kcnn.models import factory
from kcnn.models.design import ACTIVATIONS, INITIALIZERS, check_design

# Values of a wrong type, or out of range, for the arguments that families have.
WRONG = {
    "activation": ["glu", "threshold", "deserialize", "rellu", None, 1, True, ["relu"]],
    "aux_heads": ["no", "maybe", "yes", 0, 1, None, 0.5],
    "block_dropout": [1, -0.1, "x", None, True, [0.1]],
    "bn_momentum": [1, -0.1, "0.9", None, False],
    "drop_path": [1.0, -1e-9, "x", None, True],
    "dropblock": [1.0, -0.1, "x", None, True],
    "dropconnect": [1.0, -0.1, "x", None, True],
    "dropout": [1.0, -0.5, float("nan"), "0.5", None, True],
    "kernel_initializer": ["identity", "constant", "stft", "he_norml", None, 0, True],
    "layer_scale": ["x", -1e-6, 2, float("inf"), None, True],
    "norm": ["bach", None, 0, True, ["batch"]],
    "norm_epsilon": [0, -1e-3, float("nan"), float("inf"), "1e-3", None, True],
    "norm_scale": ["no", 1, None],
    "padding": ["valid", None, 1, True],
    "shortcut": ["D", "b", None, 1, True],
    "width": [0, -1, 11, float("nan"), "wide", None, True],
}


@pytest.fixture
def nothing_is_built(monkeypatch):
    def build(*arguments, **keywords):
        raise AssertionError("a layer was built")

    monkeypatch.setattr(keras, "Input", build)
    monkeypatch.setattr(factory, "normalize_pixels", build)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_wrong_value_is_one_clear_line_before_anything_is_built(spec, nothing_is_built):
    for argument in spec.design:
        for value in WRONG.get(argument, [None]):  # None is no value of any argument
            with pytest.raises(UserError) as error:
                kcnn.create_model(spec.name, **{argument: value})
            message = str(error.value)
            assert message.startswith(f"{argument} {value!r}: ")
            assert "expected" in message or "did you mean" in message or "choose from" in message
            assert "\n" not in message


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_defaults_are_values_that_their_arguments_take(spec):
    assert check_design(spec, spec.design) == dict(spec.design)


@pytest.mark.parametrize(
    ("name", "argument", "given", "built"),
    [
        ("googlenet", "aux_heads", "False", False),
        ("googlenet", "aux_heads", "TRUE", True),
        ("googlenet", "aux_heads", True, True),
        ("inceptionv3", "norm_scale", "true", True),
        ("resnet18", "dropout", 0, 0),
        ("mobilenetv2", "width", 2, 2),
        ("convnexttiny", "layer_scale", 0, 0),
        ("resnet18", "activation", "linear", "linear"),
    ],
)
def test_values_as_command_lines_give_them(name, argument, given, built):
    assert check_design(kcnn.model_spec(name), {argument: given})[argument] == built


@pytest.mark.parametrize("word", ["False", "false"])
def test_the_word_false_turns_auxiliary_heads_off(word):
    assert len(kcnn.create_model("googlenet", 3, 32, aux_heads=word).outputs) == 1


def test_an_argument_that_one_family_alone_has_takes_values_of_its_defaults_kind():
    spec = kcnn.model_spec("lenet5")
    design = {**spec.design, "blur": True, "rings": 3, "shape": "round"}
    spec = type(spec)(**{**vars(spec), "design": design})
    assert check_design(spec, {"blur": "false", "rings": 4, "shape": "flat"}) == {
        **design, "blur": False, "rings": 4, "shape": "flat",
    }  # fmt: skip
    for argument, value in (("blur", 1), ("rings", "many"), ("rings", True), ("shape", None)):
        with pytest.raises(UserError, match=f"{argument} .*: expected"):
            check_design(spec, {argument: value})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_take_one_tensor_and_keep_its_shape(name):
    inputs = keras.Input((4, 4, 8))
    outputs = keras.layers.Activation(name)(inputs)
    assert outputs.shape == inputs.shape
    values = keras.Model(inputs, outputs)(np.random.default_rng(0).normal(size=(2, 4, 4, 8)).astype(np.float32))
    assert values.shape == (2, 4, 4, 8)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_take_kernels_of_convolutions_and_dense_layers(name):
    for shape in ((3, 3, 4, 8), (4, 8)):
        assert np.isfinite(keras.initializers.get(name)(shape)).all()


def test_keras_words_that_are_no_choice_are_those_that_cannot_be_built():
    names = {name for name in dir(keras.activations) if name.islower() and not name.startswith("_")}
    assert names - set(ACTIVATIONS) == {"deserialize", "get", "glu", "serialize", "threshold"}
    names = {name for name in dir(keras.initializers) if name.islower() and not name.startswith("_")}
    assert names - set(INITIALIZERS) == {"constant", "deserialize", "get", "identity", "serialize", "stft"}


def test_a_network_carries_its_design():
    model = small("mobilenetv2", activation="silu", preprocessing="torch")
    assert dict(model.design) == {
        **kcnn.model_spec("mobilenetv2").design, "activation": "silu", "preprocessing": "torch", "channels": 3,
    }  # fmt: skip
    assert kcnn.create_model("mobilenetv2", 5, 32, features_only=True).design["activation"] == "relu6"
