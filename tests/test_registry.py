"""Registries."""

import pytest

from kcnn.errors import UserError
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


def test_a_file_is_found_because_it_exists(tmp_path, monkeypatch):
    package = tmp_path / "orchard"
    package.mkdir()
    (package / "__init__.py").write_text("from kcnn.registry import Registry\nTREES = Registry('tree', 'orchard')\n")
    (package / "oak.py").write_text("from orchard import TREES\nTREES.add('oak', 7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    from orchard import TREES

    assert TREES.names() == ["oak"]
