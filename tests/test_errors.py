"""Errors about names: the nearest choices, without the work that a hostile name would make."""

import time

import pytest

from kcnn.errors import LONGEST_NAME, MOST_CHOICES, close_names, nearest, shortened


def test_the_nearest_choices():
    assert nearest("ResNet5", ["resnet50", "vgg16"]) == "did you mean 'resnet50'?"
    assert nearest("x", ["resnet50", "vgg16"]) == "choose from resnet50, vgg16"
    assert close_names("vgg1", ["vgg16", "vgg199"], most=1) == ["vgg16"]


@pytest.mark.parametrize(
    "part", ["a", "ab", "resnet", "\N{LATIN SMALL LETTER E WITH ACUTE}", "A\N{COMBINING ACUTE ACCENT}"]
)
def test_a_name_of_megabytes_is_neither_compared_nor_shown(part):
    name = part * (2**24 // len(part))
    start = time.monotonic()
    assert nearest(name, ["a" * 100, "resnet50", name]).startswith("choose from")
    assert len(nearest(name, [name])) < 2 * LONGEST_NAME
    assert close_names("resnet5", [name]) == []
    assert len(shortened(name)) < 2 * LONGEST_NAME
    assert time.monotonic() - start < 2  # milliseconds; to compare it would take minutes


def test_of_too_many_choices_the_first_are_shown():
    assert nearest("x", [f"choice{number}" for number in range(MOST_CHOICES + 7)]).endswith(" and 7 more")
