"""Where images come from. A data set is one file here: a function registered under a name that returns a `Dataset`."""

import dataclasses
import difflib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from kcnn.data.examples import SPLITS
from kcnn.errors import UserError
from kcnn.registry import Registry

UNLABELLED = "unlabelled"  # the class of images that have none
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
class Source:
    """One image as its data set offers it.

    Attributes:
        filename: names it in every report, unique in the data set.
        label: the class name; None for an image that belongs to no class, which is then excluded with `reason`.
        split: "train", "val" or "test" where the data set says so, else None.
        read: the file's bytes; raises OSError when there are none to be had. Where it cannot be pickled, the bytes
            themselves go to the process that wants them.
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
    """A data set before anything was read.

    Attributes:
        name: for people.
        labels: the class names; their order is the order of the model's outputs.
        sources: yields every image, in the same order at every call. Large data sets hold no list of them in memory.
        count: how many images `sources` yields.
        fingerprint: changes when an image, a label or a split changes; equal fingerprints mean equal data.
        mirror: whether a mirrored image keeps its class; false for digits and letters.
        labelled: false where all images are of the one class in `labels`, which says nothing of them.
        flaws: why it is not to be trained on as it is, a line each; a look at it goes on and warns.
        remarks: what else to know of it, likewise.
    """

    name: str
    labels: tuple[str, ...]
    sources: Callable[[], Iterable[Source]]
    count: int
    fingerprint: str
    mirror: bool = True
    labelled: bool = True
    flaws: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


DATASETS: Registry[Callable[[], Dataset]] = Registry("dataset", "kcnn.data.datasets")


def open_dataset(dataset: str, *, data_dir: str | None = None, offline: bool = False, labelled: bool = True) -> Dataset:
    """The data set behind `--dataset`.

    Args:
        dataset: a registered name ("digits"), a directory of class folders (or of train/val/test folders of class
            folders), a CSV or TSV file, or the name of a tensorflow-datasets data set.
        data_dir: where tensorflow-datasets keeps its data; for a CSV, the folder that its paths are relative to.
        offline: no connection is attempted.
        labelled: false for training without labels: whatever classes there are are forgotten, splits are kept, and a
            directory needs no class folders: all files in it and in its folders are images.

    Raises:
        UserError: nothing of that name, nothing in it, or a class that cannot be written down.
    """
    path = Path(dataset).expanduser()
    if labelled:
        found = _opened(dataset, path, data_dir, offline=offline)
        _check_labels(dataset, found.labels)
        return found
    if dataset not in DATASETS and os.path.isdir(path):
        from kcnn.data.datasets import image_folder

        return image_folder.load_unlabelled(path)
    return _without_labels(_opened(dataset, path, data_dir, offline=offline))


def _opened(dataset: str, path: Path, data_dir: str | None, *, offline: bool) -> Dataset:
    from kcnn.data.datasets import image_folder, table, tfds

    if dataset in DATASETS:
        return DATASETS.get(dataset)()
    if os.path.isdir(path):
        return image_folder.load(path)
    if os.path.isfile(path):
        return table.load(path, data_dir)
    if dataset.startswith((".", "~", "/")) or dataset.endswith(("/", ".csv", ".tsv")):
        raise UserError(f"--dataset {dataset}: there is no such file or directory{_similar(path)}")
    return tfds.load(dataset, data_dir, offline=offline)


def _check_labels(dataset: str, labels: Iterable[str]) -> None:
    """Raises UserError for the name of a class that a list of one a line, in UTF-8, cannot hold."""
    for label in labels:
        if label.splitlines() != [label]:
            raise UserError(f"--dataset {dataset}: the class {label!r} has a line break in its name; rename it")
        if label.encode(errors="replace").decode() != label:
            raise UserError(
                f"--dataset {dataset}: the class {label!a} has a name that is not UTF-8, as of an archive that was "
                "unpacked under another encoding; rename it"
            )


def one_spelling(dataset: str) -> str:
    """`--dataset` as its runs are compared by: "photos" for "photos/" and "./photos" where there is such a path.

    A path that then would be the name of a registered data set keeps "./".
    """
    path = Path(dataset).expanduser()
    if dataset in DATASETS or not os.path.exists(path):
        return dataset
    return os.path.join(".", path) if str(path) in DATASETS else str(path)


def _without_labels(labelled: Dataset) -> Dataset:
    def sources() -> Iterator[Source]:
        for source in labelled.sources():
            yield source if source.label is None else dataclasses.replace(source, label=UNLABELLED)

    return dataclasses.replace(
        labelled,
        labels=(UNLABELLED,),
        sources=sources,
        fingerprint=fingerprint([UNLABELLED, labelled.fingerprint]),
        labelled=False,
        flaws=(),
    )


def split_name(name: str) -> str | None:
    """The split that a folder or a table calls `name` ("Validation" → "val"), or None."""
    return _SPLIT_NAMES.get(name.strip().lower())


def fingerprint(parts: Iterable[object]) -> str:
    """A digest of the parts' representations, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def _similar(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""


__all__ = [
    "DATASETS",
    "SPLITS",
    "UNLABELLED",
    "Dataset",
    "Source",
    "fingerprint",
    "one_spelling",
    "open_dataset",
    "split_name",
]
