"""Which image trains, which validates, which tests: a function of the image's own bytes.

A split that the data set does not bring is drawn by the first 64 bits of the image's SHA-256, as a fraction u in [0,
1): test where u < 0.15, val where u < 0.30, train above. So an image's place in test depends on nothing but its
bytes: adding files never moves an old one between train and test, and exact duplicates, under any name or label, land
together.

Every class gets its share of each split to within chance. That chance leaves small classes without test or val images
now and then, which the following mends without breaking the promise: a class without test images takes the val image
nearest to the boundary, a class without val images the train image nearest to its own.
"""

from collections import defaultdict
from collections.abc import Sequence

TEST_FRACTION = 0.15
VAL_FRACTION = 0.15


def position(sha256: str) -> float:
    """u in [0, 1) from a hexadecimal SHA-256."""
    return int(sha256[:16], 16) / 2**64


def assign(images: Sequence[tuple[str, str, str | None]]) -> list[str]:
    """The split of each image.

    Args:
        images: (sha256, label, split that the data set gives or None).

    Returns:
        "train", "val" or "test" for each; a given split stands, except that val and test are drawn out of train when
        the data set gives no such split at all.
    """
    given = {split for _, _, split in images}
    draws_test, draws_val = "test" not in given, "val" not in given
    splits: list[str] = []
    for sha256, _, split in images:
        u = position(sha256)
        test, val = draws_test or split is None, draws_val or split is None
        if split in ("val", "test"):
            splits.append(split)
        elif test and u < TEST_FRACTION:
            splits.append("test")
        elif val and TEST_FRACTION <= u < TEST_FRACTION + VAL_FRACTION:
            splits.append("val")
        else:
            splits.append("train")
    if draws_test and draws_val:
        _mend(images, splits, source="val", target="test")
    if draws_val:
        _mend(images, splits, source="train", target="val")
    return splits


def _mend(images: Sequence[tuple[str, str, str | None]], splits: list[str], *, source: str, target: str) -> None:
    """Moves one image of each class that lacks `target`, with its duplicates, from `source` to `target`."""
    present = {label for (_, label, _), split in zip(images, splits, strict=True) if split == target}
    candidates: dict[str, set[str]] = defaultdict(set)
    for (sha256, label, _), split in zip(images, splits, strict=True):
        if split == source and label not in present:
            candidates[label].add(sha256)
    # The last image of a class is not taken from training.
    moved = {min(hashes) for hashes in candidates.values() if source != "train" or len(hashes) > 1}
    splits[:] = [
        target if image[0] in moved and split == source else split for image, split in zip(images, splits, strict=True)
    ]
