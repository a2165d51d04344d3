"""Splits: the promises of `kcnn.data.ingestion.splits`, over many random data sets."""

import hashlib
import random
from collections import Counter

import pytest

from kcnn.data.ingestion.splits import TEST_FRACTION, VAL_FRACTION, plan_splits, position


def images(count, label, seed, split=None):
    rng = random.Random(f"{label}-{seed}")
    return [(hashlib.sha256(rng.randbytes(8)).hexdigest(), label, split) for _ in range(count)]


def assign(images):
    """Return the split of each image, from (sha256, label, split that the data set gives or None)."""
    splits = plan_splits(sorted(images, key=lambda image: image[0]), {split for _, _, split in images})
    return [splits.split_of(sha256, split) for sha256, _, split in images]


@pytest.mark.parametrize("seed", range(20))
def test_adding_files_never_moves_an_old_one_between_train_and_test(seed):
    old = [image for label in "abc" for image in images(12, label, seed)]
    new = [image for label in "abcd" for image in images(30, label, seed + 1000)]
    before = dict(zip([image[0] for image in old], assign(old), strict=True))
    mixed = old + new
    random.Random(seed).shuffle(mixed)
    after = dict(zip([image[0] for image in mixed], assign(mixed), strict=True))
    moves = {(before[key], after[key]) for key in before}
    assert not moves & {("train", "test"), ("test", "train")}


def test_every_class_gets_its_share():
    data = [image for label in "abcdefgh" for image in images(2000, label, 0)]
    counts = Counter((label, split) for (_, label, _), split in zip(data, assign(data), strict=True))
    for label in "abcdefgh":
        # 2000 draws: four standard deviations are 0.032
        assert counts[label, "test"] / 2000 == pytest.approx(TEST_FRACTION, abs=0.032)
        assert counts[label, "val"] / 2000 == pytest.approx(VAL_FRACTION, abs=0.032)


def test_small_classes_have_val_images_and_mostly_test_images():
    data = [image for label in map(str, range(300)) for image in images(12, label, 1)]
    places = Counter(zip((label for _, label, _ in data), assign(data), strict=True))
    assert all(places[str(label), "val"] for label in range(300))
    # 0.7 ** 12 of the classes have no image below the boundaries at all
    assert sum(not places[str(label), "test"] for label in range(300)) <= 12


def test_duplicates_land_together_whatever_their_label():
    data = images(300, "a", 2)
    copies = [(sha, "b", None) for sha, _, _ in data[:100]]
    splits = assign(data + copies)
    assert splits[300:] == splits[:100]
    by_hash = {}
    for (sha, _, _), split in zip(data + copies, splits, strict=True):
        assert by_hash.setdefault(sha, split) == split


def test_given_splits_stand_and_missing_ones_are_drawn_from_train():
    train, test = images(400, "a", 3, "train"), images(50, "a", 4, "test")
    splits = assign(train + test)
    assert set(splits[400:]) == {"test"}
    assert Counter(splits[:400]).keys() == {"train", "val"}
    validated = assign(images(400, "a", 5, "train") + images(50, "a", 6, "val"))
    assert set(validated[400:]) == {"val"}
    assert Counter(validated[:400]).keys() == {"train", "test"}


def at(place, label, split=None):
    """Return an image that is drawn at `place` from 0 to 1."""
    sha256 = f"{round(place * 2**64):016x}" + "0" * 48
    assert position(sha256) == pytest.approx(place)
    return sha256, label, split


@pytest.mark.parametrize(
    ("few", "splits"),
    [
        ([at(0.2, "a"), at(0.29, "a")], ["test", "train"]),
        ([at(0.2, "a"), at(0.05, "a")], ["train", "test"]),
        ([at(0.02, "a"), at(0.14, "a"), at(0.1, "a")], ["test", "train", "test"]),
        ([at(0.2, "a"), at(0.2, "a")], ["train", "train"]),  # copies stay together
        ([at(0.2, "a")], ["test"]),  # one image is not enough
        (
            [at(0.2, "a"), at(0.29, "a"), at(0.29, "b")],
            ["train", "test", "test"],
        ),  # an image that a shares may move for b
        ([at(0.2, "a", "train"), at(0.5, "a", "test")], ["train", "test"]),
        ([at(0.05, "a", "train"), at(0.5, "a", "val")], ["train", "val"]),
        ([at(0.9, "a", "test"), at(0.8, "a", "test")], ["test", "test"]),  # as the data set gives them
        ([at(0.9, "a", "val"), at(0.1, "a"), at(0.1, "a", "test")], ["val", "test", "test"]),
    ],
)
def test_a_class_of_two_images_or_more_has_one_to_train_on(few, splits):
    assert assign(few + images(60, "z", 0))[: len(few)] == splits


@pytest.mark.parametrize("seed", range(60))
def test_mending_moves_nothing_between_train_and_test_but_where_a_class_was_in_test_alone(seed):
    rng = random.Random(seed)
    old = [image for label in range(20) for image in images(rng.randrange(2, 5), str(label), seed)]
    new = [image for label in range(20) for image in images(rng.randrange(3), str(label), seed + 1000)]
    before, after = assign(old), assign(old + new)
    in_test = Counter(label for sha256, label, _ in old if position(sha256) < TEST_FRACTION)
    sizes = Counter(label for _, label, _ in old)
    for (_, label, _), one, other in zip(old, before, after, strict=False):
        if sizes[label] > in_test[label]:  # otherwise the class could not be trained on
            assert {one, other} != {"train", "test"}
    assert {label for (_, label, _), place in zip(old, before, strict=True) if place == "train"} == set(sizes)
