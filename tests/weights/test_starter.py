"""The weights that ship with the project: what they are, where they load, where they are refused."""

import hashlib
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import kcnn
from kcnn.errors import UserError
from kcnn.weights import find_starter, load_weights, save_backbone
from kcnn.weights.starter import STARTERS, architecture

SHIPPED = sorted(path.stem for path in STARTERS.glob("*.safetensors"))


def test_what_ships_is_small_and_says_where_it_is_from():
    assert {"mobilenetv2", "mobilenetv2_0.35"} <= set(SHIPPED)
    files = [path for path in STARTERS.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * 2**20
    assert {path.name for path in files} == {name + ending for name in SHIPPED for ending in (".safetensors", ".json")}


@pytest.mark.parametrize("name", SHIPPED)
def test_provenance(name):
    record = json.loads((STARTERS / f"{name}.json").read_text())
    assert record["model"] == name
    assert f"pretrain --model {name} --dataset {record['dataset']}" in record["command"]
    assert not record["commit"].endswith("-dirty")
    assert {"seed", "fingerprint", "hardware", "hours", "images", "classes", "config"} <= set(record)
    assert hashlib.sha256((STARTERS / f"{name}.safetensors").read_bytes()).hexdigest() == record["sha256"]


@pytest.mark.parametrize("name", SHIPPED)
def test_the_whole_backbone_gets_the_files_numbers(name):
    path = find_starter(name)
    arrays = load_file(path)
    assert {array.dtype for array in arrays.values()} == {np.dtype("float16")}
    model = kcnn.create_model(name, 7, 96, dropout=0.5, drop_path=0.1)
    report = load_weights(model, "starter")
    assert all(layer.startswith("head_") for layer in report.kept)
    loaded = {f"{layer.name}/{v.name}": v.numpy() for layer in model.layers for v in layer.weights}
    assert {key for key in loaded if not key.startswith("head_")} == set(arrays)
    for key, array in arrays.items():
        np.testing.assert_array_equal(loaded[key], array.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "design", "message"),
    [
        (
            "mobilenetv2",
            {"activation": "silu"},
            "for its default design, activation='relu6', and this one has activation='silu'",
        ),
        ("mobilenetv2", {"norm": "group"}, "for its default design, norm='batch', and this one has norm='group'"),
        ("mobilenetv2", {"width": 0.35}, "do not fit"),
        ("mobilenetv2.torch", {}, "there are none; those of mobilenetv2"),
        ("lenet5", {}, "there are none; those of mobilenetv2"),
    ],
)
def test_they_load_into_the_network_they_fit_alone(name, design, message):
    model = kcnn.create_model(name, 3, 64, **design)
    before = [variable.numpy() for variable in model.variables]
    with pytest.raises(UserError, match=message):
        load_weights(model, "starter")
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_a_backbone_without_its_head_goes_to_a_file_and_back(tmp_path):
    model = kcnn.create_model("mobilenetv2_0.35", 3, 32)
    save_backbone(model, tmp_path / "b.safetensors")
    other = kcnn.create_model("mobilenetv2_0.35", 5, 64)
    assert load_weights(other, tmp_path / "b.safetensors").kept
    for layer, twin in zip(model.layers, other.layers, strict=True):
        for variable, copied in [] if layer.name.startswith("head_") else zip(layer.weights, twin.weights, strict=True):
            np.testing.assert_array_equal(np.float16(variable), np.float16(copied))
    assert [path.name for path in tmp_path.iterdir()] == ["b.safetensors"]

    model.get_layer("stem_conv").kernel.assign(keras.ops.full_like(model.get_layer("stem_conv").kernel, 1e6))
    with pytest.raises(ValueError, match="stem_conv/kernel holds what float16 cannot"):
        save_backbone(model, tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()


def test_an_architecture_is_known_whatever_its_size_classes_and_drop_rates():
    digest = architecture(kcnn.create_model("mobilenetv2_0.35", 3, 32))
    assert digest == architecture(kcnn.create_model("mobilenetv2_0.35", 9, (64, 96), dropout=0.5, drop_path=0.2))
    for design in ({"activation": "relu"}, {"norm": "layer"}, {"norm": "none"}):
        assert digest != architecture(kcnn.create_model("mobilenetv2_0.35", 3, 32, **design)), design
