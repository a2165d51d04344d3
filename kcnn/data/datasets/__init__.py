"""Data sets, one file each: a function registered under a name that returns a `Dataset`.

This module holds the types that a data set is made of and imports none of the data sets. `opening` finds the data set
that a user names.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping

from kcnn.registry import Registry

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """One image as its data set offers it, before it is read.

    Attributes:
        filename: names the image in every report; unique in the data set.
        label: the class name; None for an image that belongs to no class, which is then excluded with `reason`.
        split: "train", "val" or "test" where the data set says so, else None.
        read: returns the file's bytes; raises OSError where they cannot be read. A function that cannot be pickled is
            called early, and its bytes go to the process that decodes them.
        reason: why an image without a label has none.
        columns: what else the data set says of the image, by name.
    """

    filename: str
    label: str | None
    split: str | None
    read: Callable[[], bytes]
    reason: str = "no label"
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set before any image is read.

    Attributes:
        name: the name in messages and reports.
        labels: the class names; their order is the order of the model's outputs.
        sources: yields every image, in the same order at every call. Large data sets hold no list of them in memory.
        count: how many images `sources` yields.
        fingerprint: changes when an image, a label or a split changes; equal fingerprints mean equal data.
        mirror: whether a mirrored image keeps its class; false for digits and letters.
        labelled: false where all images have the one class in `labels`, which says nothing of them.
        flaws: why it is not to be trained on as it is, a line each; commands that only look at it warn and go on.
        remarks: what else to know of it, a line each.
    """

    name: str
    labels: tuple[str, ...]
    sources: Callable[[], Iterable[ImageSource]]
    count: int
    fingerprint: str
    mirror: bool = True
    labelled: bool = True
    flaws: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


DATASETS: Registry[Callable[[], Dataset]] = Registry("dataset", "kcnn.data.datasets")


def split_name(name: str) -> str | None:
    """Return the split that a folder or a table calls `name` ("Validation" → "val"), or None."""
    return _SPLIT_NAMES.get(name.strip().lower())


def digest_parts(parts: Iterable[object]) -> str:
    """Return the SHA-256 of the parts' representations, in order, as hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
