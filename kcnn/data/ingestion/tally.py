"""Counting of the readable images of all parts, from which the summary and the number of shards follow."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from kcnn.data.ingestion.splits import Splits


class ReadableImage(NamedTuple):
    """The facts that decide an image's split, in the order by which images are sorted.

    Attributes:
        sha256: hexadecimal digest of the file.
        label: the class name.
        given: the split that the data set gives, or "".
        bytes: size of the file.
        side: the shorter side of the stored image, in pixels.
    """

    sha256: str
    label: str
    given: str
    bytes: int
    side: int


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts of all readable images.

    Attributes:
        images: (split, label) → images.
        bytes: split → bytes of the encoded images.
        sides: shorter side in pixels → training images.
        straddling: number of different files that are in train and in another split too.
        ambiguous: number of different files with two labels or more.
    """

    images: Counter[tuple[str, str]]
    bytes: Counter[str]
    sides: Counter[int]
    straddling: int
    ambiguous: int


def tally_images(images: Iterable[ReadableImage], splits: Splits) -> Tally:
    """Count images that come in ascending order, equal files one after the other."""
    result = Tally(Counter(), Counter(), Counter(), 0, 0)
    straddling = ambiguous = 0
    for sha256, copies in itertools.groupby(images, lambda image: image.sha256):
        places, labels = set(), set()
        for image in copies:
            split = splits.split_of(sha256, image.given or None)
            result.images[split, image.label] += 1
            result.bytes[split] += image.bytes
            if split == "train":
                result.sides[image.side] += 1
            places.add(split)
            labels.add(image.label)
        straddling += "train" in places and len(places) > 1
        ambiguous += len(labels) > 1
    return dataclasses.replace(result, straddling=straddling, ambiguous=ambiguous)
