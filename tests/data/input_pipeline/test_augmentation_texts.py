"""The text of `--augment`: how it is split, what it may hold, and what is said of mistakes."""

import subprocess
import sys

import pytest

from kcnn.data.input_pipeline.augmentation_texts import parse_augmentation, split_augmentations
from kcnn.data.input_pipeline.augmentations import AUGMENTATIONS, choose_augmentations, read_augmentation
from kcnn.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("flip", ("flip",)),
        ("flip,randaugment", ("flip", "randaugment")),
        (" flip , cutmix() ", ("flip", "cutmix")),
        ("randaugment(n=3, m = 12),cutmix(alpha=0.5)", ("randaugment(n=3,m=12)", "cutmix(alpha=0.5)")),
    ],
)
def test_a_text_is_split_at_the_commas_outside_of_brackets(text, expected):
    found = split_augmentations(text)
    assert found == expected
    assert split_augmentations(",".join(found)) == found  # canonical


def test_the_parts_of_a_text():
    assert parse_augmentation("randaugment(n=3,m=12)") == ("randaugment", {"n": "3", "m": "12"})


@pytest.mark.parametrize(
    "text", ["cutmix(alpha)", "cutmix(alpha=)", "cutmix(=1)", "cutmix(alpha=1", "cutmix)", "cutmix((alpha=1))", "(n=1)"]
)
def test_what_is_written_otherwise_is_shown_with_an_example(text):
    with pytest.raises(UserError, match=r"expected name\(argument=value,...\), as in"):
        split_augmentations(text)


def test_an_argument_stands_once():
    with pytest.raises(UserError, match="n is given twice"):
        split_augmentations("randaugment(n=1,n=2)")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("randaugmnt(n=2)", "unknown augmentation 'randaugmnt': did you mean 'randaugment'"),
        ("cutmix(alfa=1)", "unknown argument 'alfa' of cutmix: did you mean 'alpha'"),
        ("randaugment(n=99)", "n 99: expected 1 to 10; the nearest is 10"),
        ("randaugment(n=2.5)", "n '2.5': expected a whole number from 1 to 10"),
        ("randaugment(m=x)", "m 'x': expected a number from 0 to 30"),
        ("randaugment(m=nan)", "m nan: expected 0 to 30"),
        ("randaugment(ops=keras)", "ops 'keras': did you mean 'keras_cv'"),
        ("flip(n=2)", "unknown argument 'n' of flip"),
    ],
)
def test_mistakes_get_one_line_with_the_nearest_choice(text, message):
    with pytest.raises(UserError) as caught:
        read_augmentation(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_what_may_be_given_is_what_the_function_takes(name):
    """Read each argument's default, which must be valid, and pass it on."""
    found = AUGMENTATIONS.get(name)
    defaults = found.function.__kwdefaults__ or {}
    assert found.valid.keys() == defaults.keys() - {"fitted"}
    for argument in found.valid:
        read = read_augmentation(f"{name}({argument}={defaults[argument]})")
        assert read.function.keywords == {argument: defaults[argument]}


def test_two_views_are_one_too_many():
    views = [name for name in AUGMENTATIONS if AUGMENTATIONS.get(name).stage == "view"]
    with pytest.raises(UserError, match="expected one of them"):
        choose_augmentations(views[:2])


def test_the_syntax_needs_no_tensorflow():
    code = (
        "import sys\nfrom kcnn.data.input_pipeline.augmentation_texts import split_augmentations\n"
        "split_augmentations('flip,cutmix(alpha=1)')\nassert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
