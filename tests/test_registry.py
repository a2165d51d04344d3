"""Registries."""

import importlib
import sys

import pytest

from kcnn.data.datasets import DATASETS
from kcnn.data.input_pipeline.augmentations import AUGMENTATIONS
from kcnn.errors import UserError
from kcnn.models.spec import MODELS
from kcnn.registry import Registry


@pytest.fixture
def fruits():
    registry = Registry("fruit")
    registry.add("apple_v1.4", 1)
    registry.register("BlackBerry")(2)
    return registry


@pytest.mark.parametrize("name", ["apple_v1.4", "APPLEv1.4", "Apple-V1.4"])
def test_case_and_separators_are_forgiven(fruits, name):
    assert fruits.get(name) == 1
    assert name in fruits


def test_dots_are_not(fruits):
    assert "apple_v14" not in fruits


def test_a_miss_names_the_closest(fruits):
    with pytest.raises(UserError, match=r"unknown fruit 'blackbery': did you mean 'BlackBerry'"):
        fruits.get("blackbery")
    with pytest.raises(UserError, match=r"choose from apple_v1\.4, BlackBerry"):
        fruits.get("xyz")


def test_two_of_a_name_are_an_error(fruits):
    with pytest.raises(ValueError, match="two entries named 'black_berry'"):
        fruits.add("black_berry", 3)


@pytest.fixture
def orchard(tmp_path, monkeypatch):
    """Make a package with a registry; the tests write its modules."""
    package = tmp_path / "orchard"
    package.mkdir()
    (package / "__init__.py").write_text("from kcnn.registry import Registry\nTREES = Registry('tree', 'orchard')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # a mended file has the time stamp of the broken one
    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "orchard"]:
        del sys.modules[name]


def test_a_file_is_found_because_it_exists(orchard):
    (orchard / "oak.py").write_text("from orchard import TREES\nTREES.add('oak', 7)\n")
    from orchard import TREES

    assert TREES.names() == ["oak"]


def test_a_broken_module_is_shown_at_every_lookup_until_it_is_mended(orchard):
    (orchard / "ash.py").write_text("from orchard import TREES\nTREES.add('ash', 1)\n")
    (orchard / "elm.py").write_text("from orchard import TREES\nTREES.add('elm', 2)\nraise OSError('no wood')\n")
    (orchard / "oak.py").write_text("from orchard import TREES\nTREES.add('oak', 3)\n")
    from orchard import TREES

    for lookup in (TREES.names, lambda: TREES.get("oak"), lambda: "oak" in TREES, lambda: list(TREES)):
        with pytest.raises(OSError, match="no wood"):
            lookup()
    (orchard / "elm.py").write_text("from orchard import TREES\nTREES.add('elm', 2)\n")
    importlib.invalidate_caches()
    assert TREES.names() == ["ash", "elm", "oak"]


def test_a_module_may_look_up_entries_while_it_is_imported(orchard):
    (orchard / "ash.py").write_text("from orchard import TREES\nTREES.add('ash', 1)\n")
    (orchard / "oak.py").write_text("from orchard import TREES\nTREES.add('oak', TREES.get('ash') + 1)\n")
    from orchard import TREES

    assert TREES.get("oak") == 2


def test_entries_know_the_module_that_defines_them(orchard):
    (orchard / "oak.py").write_text(
        "from orchard import TREES\nTREES.add('oak', 7)\n@TREES.register('white_oak')\ndef white_oak():\n    pass\n"
    )
    from orchard import TREES

    assert TREES.module("oak") == TREES.module("White-Oak") == "orchard.oak"
    TREES.add("pine", 1, module="forest")
    TREES.add("fir", 1)
    assert (TREES.module("pine"), TREES.module("fir")) == ("forest", __name__)
    with pytest.raises(UserError, match="unknown tree"):
        TREES.module("palm")


def test_every_architecture_and_dataset_knows_its_file():
    assert MODELS.module("resnext50_32x4d") == "kcnn.models.resnext"
    assert MODELS.module("wideresnet50_2") == "kcnn.models.wideresnet"
    assert {MODELS.module(name).rpartition(".")[0] for name in MODELS} == {"kcnn.models"}
    assert DATASETS.module("digits") == "kcnn.data.datasets.digits"
    assert AUGMENTATIONS.module("flip") == "kcnn.data.input_pipeline.augmentations.flip"
