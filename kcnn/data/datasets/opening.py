"""Finding the data set behind `--dataset`: a registered name, a folder, a table, or a name of tensorflow-datasets."""

import dataclasses
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from kcnn.data.datasets import DATASETS, Dataset, ImageSource, digest_parts, image_folder, look_alikes, table, tfds
from kcnn.data.records import UNLABELLED
from kcnn.errors import UserError, close_names


def open_dataset(dataset: str, *, data_dir: str | None = None, offline: bool = False, labelled: bool = True) -> Dataset:
    """Open the data set that `--dataset` names; no image is read.

    Args:
        dataset: a registered name ("digits"), a directory of class folders (or of train/val/test folders of class
            folders), a CSV or TSV file, or the name of a tensorflow-datasets data set.
        data_dir: where tensorflow-datasets keeps its data; for a CSV, the folder that its paths are relative to.
        offline: forbids every connection.
        labelled: false for training without labels: all classes become one, splits are kept, and a directory needs no
            class folders, since every file below it is an image.

    Raises:
        UserError: there is no such data set, it is empty, or the name of a class cannot be written down.
    """
    path = Path(dataset).expanduser()
    if labelled:
        found = _open(dataset, path, data_dir, offline=offline)
        _check_labels(dataset, found.labels)
        return look_alikes.merge_forms(found)
    if dataset not in DATASETS and os.path.isdir(path):
        return image_folder.load_unlabelled(path)
    return _without_labels(_open(dataset, path, data_dir, offline=offline))


def normalize_dataset_name(dataset: str) -> str:
    """Return the one spelling of `--dataset` by which runs are compared: "photos" for "photos/" and "./photos".

    Names that are no path stay as they are. A path that would become the name of a registered data set keeps "./".
    """
    path = Path(dataset).expanduser()
    if dataset in DATASETS or not os.path.exists(path):
        return dataset
    return os.path.join(".", path) if str(path) in DATASETS else str(path)


def _open(dataset: str, path: Path, data_dir: str | None, *, offline: bool) -> Dataset:
    if dataset in DATASETS:
        return DATASETS.get(dataset)()
    if os.path.isdir(path):
        return image_folder.load(path)
    if os.path.isfile(path):
        return table.load(path, data_dir)
    if os.path.exists(path):
        raise UserError(f"--dataset {dataset}: not a regular file; expected a folder, or a CSV or TSV file")
    if dataset.startswith((".", "~", "/")) or dataset.endswith(("/", ".csv", ".tsv", ".tab", ".txt")):
        raise UserError(f"--dataset {dataset}: there is no such file or directory{_similar(path)}")
    return tfds.load(dataset, data_dir, offline=offline)


def _check_labels(dataset: str, labels: Iterable[str]) -> None:
    """Raise UserError for a class name that cannot be a line of a UTF-8 file."""
    encoding = sys.getfilesystemencoding()
    for label in labels:
        if label.splitlines() != [label]:
            raise UserError(f"--dataset {dataset}: the class {label!r} has a line break in its name; rename it")
        if label.encode(errors="replace").decode() == label:
            continue
        if encoding != "utf-8":
            raise UserError(
                f"--dataset {dataset}: Python reads the name of the class {label!a} as {encoding}; set PYTHONUTF8=1"
            )
        raise UserError(
            f"--dataset {dataset}: the class {label!a} has a name that is not UTF-8, for example from an archive "
            "that was unpacked under another encoding; rename it"
        )


def _without_labels(labelled: Dataset) -> Dataset:
    """Return the data set with one class for all its images."""

    def sources() -> Iterator[ImageSource]:
        for source in labelled.sources():
            yield source if source.label is None else dataclasses.replace(source, label=UNLABELLED)

    return dataclasses.replace(
        labelled,
        labels=(UNLABELLED,),
        sources=sources,
        fingerprint=digest_parts([UNLABELLED, labelled.fingerprint]),
        labelled=False,
        flaws=(),
    )


def _similar(path: Path) -> str:
    """Return a hint at the file or folder beside `path` with the most similar name, or ""."""
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    close = close_names(path.name, names, most=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""
