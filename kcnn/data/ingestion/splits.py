"""The split into train, val and test: a function of each image's own bytes.

A split that the data set does not bring is drawn by the first 64 bits of the image's SHA-256, as a fraction u in [0,
1): test where u < 0.15, val where u < 0.30, train above. So an image's place in test depends on nothing but its
bytes: adding files never moves an old one between train and test, and exact duplicates, under any name or label, land
together.

Every class gets its share of each split to within chance. By chance, a small class may get no test or val image. Then
it takes one from the neighbouring split, which keeps the promise above: a class without test images takes the val image
nearest to the boundary, and a class without val images takes the train image nearest to the boundary.

A class of two images or more that has none in train cannot be trained on. It takes the drawn val image nearest to train
or, where none is in val, the test image. This last case alone breaks the promise, for that one image: when files are
added that give its class an image in train or val, it is in test again.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

TEST_FRACTION = 0.15
VAL_FRACTION = 0.15


def position(sha256: str) -> float:
    """Return u in [0, 1) from a hexadecimal SHA-256."""
    return int(sha256[:16], 16) / 2**64


@dataclasses.dataclass(frozen=True)
class Splits:
    """The rule by which images are split.

    Attributes:
        draws_test: whether test is drawn, as no image's given split is test.
        draws_val: whether val is drawn, as no image's given split is val.
        moved: hexadecimal SHA-256 → (from, to) of the images that move to another split for their class.
    """

    draws_test: bool
    draws_val: bool
    moved: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    def split_of(self, sha256: str, given: str | None) -> str:
        """Return the split of an image, "train", "val" or "test".

        Args:
            sha256: hexadecimal digest of the image's file.
            given: the split that the data set gives, or None.
        """
        split = self._drawn(sha256, given)
        source, target = self.moved.get(sha256, ("", ""))
        return target if split == source else split

    def _drawn(self, sha256: str, given: str | None) -> str:
        if given in ("val", "test"):
            return given
        u = position(sha256)
        if u < TEST_FRACTION and (self.draws_test or given is None):
            return "test"
        if TEST_FRACTION <= u < TEST_FRACTION + VAL_FRACTION and (self.draws_val or given is None):
            return "val"
        return "train"


def plan_splits(images: Iterable[tuple[str, str, str | None]], given: Collection[str | None]) -> Splits:
    """Draw the splits that are not given, and move images of classes that lack a split.

    Args:
        images: (sha256, label, given split) in ascending order of the first, read once; memory holds three numbers and
            six images for each label.
        given: the given splits that occur among the images. A given split stands, except that val and test are drawn
            out of train when there is no such split at all.
    """
    drawn = Splits("test" not in given, "val" not in given)
    counts: Counter[tuple[str, str]] = Counter()  # (split, label) → images
    first: dict[tuple[str, str], tuple[str, Counter[str]]] = {}  # (split, label) → lowest hash, its copies' labels
    last: dict[tuple[str, str], tuple[str, Counter[str]]] = {}  # highest, among drawn images with one label
    several: set[str] = set()  # labels of two different train images or more
    for sha256, copies in itertools.groupby(images, lambda image: image[0]):
        labels: dict[str, Counter[str]] = {}
        stands: set[str] = set()  # the splits that the data set gives to a copy
        for _, label, split in copies:
            place = drawn.split_of(sha256, split)
            labels.setdefault(place, Counter())[label] += 1
            stands.update({place} & {split})
        for place, found in labels.items():
            for label, count in found.items():
                if place == "train" and counts[place, label]:
                    several.add(label)
                counts[place, label] += count
                first.setdefault((place, label), (sha256, found))
                if place not in stands and len(found) == 1:
                    last[place, label] = (sha256, found)
    moved: dict[str, tuple[str, str]] = {}
    names = {label for _, label in counts}

    def move(
        source: str, target: str, able: Iterable[str], nearest: Mapping[tuple[str, str], tuple[str, Counter[str]]]
    ) -> None:
        lacking = [label for label in able if not counts[target, label] and (source, label) in nearest]
        for sha256, labels in dict(nearest[source, label] for label in lacking).items():
            if sha256 not in moved:
                moved[sha256] = (source, target)
                for label, count in labels.items():
                    counts[source, label] -= count
                    counts[target, label] += count

    trainable = {label for label in names if counts["val", label] + counts["test", label] > 1}
    move("val", "train", trainable, last)
    move("test", "train", trainable, last)
    if drawn.draws_val:  # a given val split is not changed
        if drawn.draws_test:
            move("val", "test", names, first)
        move("train", "val", several, first)  # the last image of a class is not taken from training
    return dataclasses.replace(drawn, moved=moved)
