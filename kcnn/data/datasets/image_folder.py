"""A directory of class folders, or of train/val/test folders of class folders.

    photos/cat/a.jpg  photos/dog/b.png          photos/train/cat/a.jpg  photos/test/dog/b.png

Every file that is not hidden counts as an image, whatever its extension: what is none is excluded by name later. Class
folders may nest; the first level is the class.
"""

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from kcnn.data.datasets import UNLABELLED, Dataset, Source, fingerprint, split_name
from kcnn.errors import UserError

_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}  # what Windows and macOS leave in folders


def visible(name: str) -> bool:
    """Whether a file or folder is data rather than a system's own leftover."""
    return not name.startswith(".") and name.lower() not in _NOT_DATA


def _files(folder: Path, root: Path) -> Iterator[str]:
    """The names of the files below `folder`, relative to `root`."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(filter(visible, folders))
        relative = "" if parent == str(root) else os.path.relpath(parent, root)
        yield from (os.path.join(relative, name) for name in sorted(filter(visible, names)))


def _folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and visible(entry.name))


def _split_folders(root: Path) -> dict[Path, str | None]:
    """The train/val/test folders below `root` and their splits; none where the folders are something else.

    Raises:
        UserError: other folders beside them.
    """
    folders = _folders(root)
    splits = {folder: split_name(folder.name) for folder in folders}
    named = [folder.name for folder in folders if splits[folder]]
    # One folder called "train" among others may hold pictures of trains; two such names mean splits.
    split_layout = "train" in splits.values() and (len(named) > 1 or len(folders) == 1)
    if split_layout and len(named) < len(folders):
        others = ", ".join(folder.name for folder in folders if not splits[folder])
        raise UserError(f"--dataset {root}: {others} beside {' and '.join(named)}; expected train, val and test alone")
    return splits if split_layout else {}


def load(root: Path) -> Dataset:
    """The images below `root`.

    Raises:
        UserError: no class folders, one class only, or no file in any of them.
    """
    splits = _split_folders(root)
    parents: dict[Path, str | None] = splits or {root: None}
    class_folders = [(split, folder) for parent, split in parents.items() for folder in _folders(parent)]
    expected = f"expected {root}/<class>/<image> or {root}/<train|val|test>/<class>/<image>"
    if not class_folders:
        found = sum(1 for _ in _files(root, root))
        raise UserError(
            f"--dataset {root}: "
            + (f"{found} files but no class folders" if found else "the folder is empty")
            + f"; {expected}"
            + ("; pictures without classes are for main.py pretrain --objective rotation" if found else "")
        )

    def entries() -> Iterator[tuple[str, str, str | None]]:
        for split, folder in class_folders:
            yield from ((name, folder.name, split) for name in _files(folder, root))

    counts: Counter[str] = Counter()

    def states() -> Iterator[tuple[object, ...]]:
        for name, label, split in entries():
            counts[label] += 1
            yield (*file_state(os.path.join(root, name)), label, split)

    digest = fingerprint(states())
    labels = tuple(sorted(counts))
    if not labels:
        raise UserError(f"--dataset {root}: no files in its {len(class_folders)} class folders; {expected}")
    if len(labels) == 1:
        raise UserError(
            f"--dataset {root}: only one class with files in it ({labels[0]!r}); two or more are needed; {expected}"
        )
    strays = [
        str(path.relative_to(root))
        for parent in [root, *splits]
        for path in sorted(parent.iterdir())
        if path.is_file() and visible(path.name)
    ]

    def sources() -> Iterator[Source]:
        yield from (Source(*entry, _reader(root, entry[0])) for entry in entries())
        for name in strays:
            yield Source(name, None, None, _reader(root, name), reason="not inside a class folder")

    return Dataset(
        name=root.resolve().name,
        labels=labels,
        sources=sources,
        count=counts.total() + len(strays),
        fingerprint=digest,
    )


def _reader(root: Path, name: str) -> Callable[[], bytes]:
    return functools.partial(read_file, os.path.abspath(os.path.join(root, name)))


def load_unlabelled(root: Path) -> Dataset:
    """All files below `root`, whatever its folders are called; those in train, val and test folders keep their split.

    Raises:
        UserError: other folders beside those three, or no file at all.
    """
    splits = _split_folders(root)
    by_name = {folder.name: split for folder, split in splits.items()}
    count = 0

    def entries() -> Iterator[tuple[str, str | None]]:
        yield from ((name, by_name.get(name.split(os.sep, 1)[0])) for name in _files(root, root))

    def states() -> Iterator[tuple[object, ...]]:
        nonlocal count
        for name, split in entries():
            count += 1
            yield (*file_state(os.path.join(root, name)), UNLABELLED, split)

    digest = fingerprint(states())
    if not count:
        raise UserError(f"--dataset {root}: the folder is empty; expected images, in folders or not")

    def sources() -> Iterator[Source]:
        yield from (Source(name, UNLABELLED, split, _reader(root, name)) for name, split in entries())

    return Dataset(
        name=root.resolve().name,
        labels=(UNLABELLED,),
        sources=sources,
        count=count,
        fingerprint=digest,
        labelled=False,
    )


def read_file(path: str) -> bytes:
    """The bytes of a file; raises OSError."""
    with open(path, "rb") as file:
        return file.read()


def file_state(path: str) -> tuple[object, ...]:
    """What changes when a file does: its path, size and time of change; size and time are None for a missing file."""
    try:
        state = os.stat(path)
    except OSError:
        return (path, None, None)
    return (path, state.st_size, state.st_mtime_ns)
