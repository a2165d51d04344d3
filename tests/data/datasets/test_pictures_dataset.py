"""The pictures to be cut into crops: those of the packages as they are, and sheets of formulas."""

import importlib.util
import io

import numpy as np
import pytest
import skimage
import sklearn.datasets
from PIL import Image

from kcnn.data.datasets import atoms, pictures
from kcnn.data.datasets.opening import open_dataset
from kcnn.errors import UserError
from pipelines.graphs.preflight import check_classes


def test_they_are_the_packages_own_and_each_has_a_licence():
    sources = {source.filename: source for source in open_dataset("pictures", labelled=False).sources()}
    assert len(sources) == open_dataset("pictures").count == 20
    pixels = np.asarray(Image.open(io.BytesIO(sources["skimage/astronaut.png"].read())))
    np.testing.assert_array_equal(pixels, skimage.data.astronaut())
    pixels = np.asarray(Image.open(io.BytesIO(sources["sklearn/china.jpg"].read())))
    np.testing.assert_array_equal(pixels, sklearn.datasets.load_sample_image("china.jpg"))
    assert all(source.columns["licence"] and source.columns["author"] for source in sources.values())
    # No statement of a licence is in the documentation of these.
    assert not [name for name in sources if any(word in name for word in ("moon", "page", "motorcycle", "logo"))]


def test_what_is_held_out_is_no_part_of_what_is_trained_on():
    splits = {split: set() for split in ("train", "val", "test")}
    for source in open_dataset("pictures").sources():
        splits[source.split].add(source.filename)
    assert {split: len(names) for split, names in splits.items()} == {"train": 17, "val": 2, "test": 1}
    assert not splits["train"] & (splits["val"] | splits["test"])


def test_a_sheet_has_an_image_of_the_formula_in_each_tile():
    sheet = np.asarray(Image.open(io.BytesIO(pictures.draw_sheet("atoms", 1))))
    assert sheet.shape == (768, 768, 3)
    np.testing.assert_array_equal(sheet[64:128, 128:192], atoms.draw(144 + 12 + 2, 0))


def test_they_have_no_labels():
    with pytest.raises(UserError, match="--dataset pictures: its pictures have no labels; expected pretrain"):
        check_classes("pictures", open_dataset("pictures"))
    check_classes("pictures", open_dataset("pictures", labelled=False))


def test_without_scikit_image_one_line_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else find(name))
    with pytest.raises(UserError, match=r"scikit-image is not installed; pip install 'kcnn\[pretrain\]'"):
        open_dataset("pictures")
