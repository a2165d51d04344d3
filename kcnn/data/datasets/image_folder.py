"""A directory of class folders, or of train/val/test folders of class folders.

    photos/cat/a.jpg  photos/dog/b.png          photos/train/cat/a.jpg  photos/test/dog/b.png

Every file that is not hidden counts as an image, whatever its extension; ingestion excludes the files that are none.
Class folders may nest; the first level is the class. A class folder may be a link; other links to folders are not
followed.
"""

import functools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from kcnn.data.datasets import Dataset, ImageSource, digest_parts, split_name
from kcnn.data.input_pipeline.magic import FORMATS
from kcnn.data.records import MAX_MESSAGE_BYTES, UNLABELLED
from kcnn.errors import UserError

_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx"}  # what Windows and macOS leave in folders
_LARGE = 2**26  # bytes; a larger file is read only if it begins like an image
_LARGEST = MAX_MESSAGE_BYTES - 2**20  # bytes of a file that fits into a tf.Example


def visible(name: str) -> bool:
    """Return whether a file or folder is data and no hidden file or leftover of an operating system."""
    return not name.startswith(".") and name.lower() not in _NOT_DATA


def _files(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield each file below `folder`: its name, relative to `root`, and the reason why it is left out, or "".

    Raises:
        UserError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"--dataset {root}: the folder {error.filename} cannot be read: {error.strerror}") from None

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = sorted(filter(visible, folders))
        relative = "" if parent == str(root) else os.path.relpath(parent, root)
        yield from ((os.path.join(relative, name), "") for name in sorted(filter(visible, names)))
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                yield os.path.join(relative, name), "a link to a folder, which is not followed"


def list_folder(folder: Path, root: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in `folder` that are data (`visible`), both sorted.

    Args:
        folder: the folder, within the data set.
        root: the data set, for messages.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if visible(entry.name)]
        folders = [entry for entry in entries if entry.is_dir()]
        files = [entry for entry in entries if entry.is_file()]
    except OSError as error:
        raise UserError(f"--dataset {root}: the folder {folder} cannot be read: {error.strerror}") from None
    return sorted(map(Path, folders)), sorted(map(Path, files))


def _layout(root: Path) -> tuple[dict[Path, str], list[Path]]:
    """Return the train/val/test folders below `root` with their splits, and the folders beside them.

    Both are empty where the folders are no splits.
    """
    found, _ = list_folder(root, root)
    splits = {folder: split for folder in found if (split := split_name(folder.name)) is not None}
    # One folder called "train" among others may hold pictures of trains; two such names mean splits.
    if "train" in splits.values() and (len(splits) > 1 or len(found) == 1):
        return splits, [folder for folder in found if folder not in splits]
    return {}, []


def _beside(splits: dict[Path, str], others: list[Path]) -> str:
    names, strange = ([folder.name for folder in each] for each in (splits, others))
    return f"{', '.join(strange)} beside {' and '.join(names)}; expected train, val and test alone"


def load(root: Path) -> Dataset:
    """Open the class folders below `root`.

    Raises:
        UserError: there are no class folders, no file is in any of them, or a folder cannot be read.
    """
    splits, others = _layout(root)
    parents: dict[Path, str | None] = {**splits} or {root: None}
    class_folders = [(split, folder) for parent, split in parents.items() for folder in list_folder(parent, root)[0]]
    expected = f"expected {root}/<class>/<image> or {root}/<train|val|test>/<class>/<image>"
    if not class_folders:
        found = sum(1 for _ in _files(root, root))
        raise UserError(
            f"--dataset {root}: "
            + (f"{found} files but no class folders" if found else "the folder is empty")
            + f"; {expected}"
            + ("; pictures without classes are for main.py pretrain --objective rotation" if found else "")
        )
    read = _reader(root)

    def sources() -> Iterator[ImageSource]:
        for split, folder in class_folders:
            for name, reason in _files(folder, root):
                yield ImageSource(name, None if reason else folder.name, split, read(name), reason)
        for folder in others:
            for name, reason in _files(folder, root):
                yield ImageSource(name, None, None, read(name), reason or "not in a folder of train, val or test")
        for parent in [root, *splits]:
            for path in list_folder(parent, root)[1]:
                name = str(path.relative_to(root))
                yield ImageSource(name, None, None, read(name), "not inside a class folder")

    counts: Counter[str | None] = Counter()

    def states() -> Iterator[tuple[object, ...]]:
        for source in sources():
            counts[source.label] += 1
            yield (*file_state(os.path.join(root, source.filename)), source.label, source.split)

    digest = digest_parts(states())
    labels = tuple(sorted(label for label in counts if label is not None))
    if not labels:
        raise UserError(f"--dataset {root}: no files in its {len(class_folders)} class folders; {expected}")
    empty = sorted({folder.name for _, folder in class_folders} - {*labels})
    return Dataset(
        name=root.resolve().name,
        labels=labels,
        sources=sources,
        count=counts.total(),
        fingerprint=digest,
        flaws=(_beside(splits, others),) if others else (),
        remarks=(f"class folders without a file, left out: {', '.join(empty)}",) if empty else (),
    )


def load_unlabelled(root: Path) -> Dataset:
    """Open all files below `root`, whatever its folders are called; train, val and test folders keep their split.

    Raises:
        UserError: other folders stand beside train, val and test, there is no file, or a folder cannot be read.
    """
    splits, others = _layout(root)
    if others:
        raise UserError(f"--dataset {root}: {_beside(splits, others)}")
    by_name = {folder.name: split for folder, split in splits.items()}
    read = _reader(root)

    def sources() -> Iterator[ImageSource]:
        for name, reason in _files(root, root):
            split = by_name.get(name.split(os.sep, 1)[0])
            yield ImageSource(name, None if reason else UNLABELLED, split, read(name), reason)

    count = 0

    def states() -> Iterator[tuple[object, ...]]:
        nonlocal count
        for source in sources():
            count += 1
            yield (*file_state(os.path.join(root, source.filename)), source.label, source.split)

    digest = digest_parts(states())
    if not count:
        raise UserError(f"--dataset {root}: the folder is empty; expected images, in folders or not")
    return Dataset(
        name=root.resolve().name,
        labels=(UNLABELLED,),
        sources=sources,
        count=count,
        fingerprint=digest,
        labelled=False,
    )


def _reader(root: Path) -> Callable[[str], Callable[[], bytes]]:
    """Return a function from a file's name to the function that reads it, from any working directory."""
    home = os.path.abspath(root)
    return lambda name: functools.partial(read_file, os.path.join(home, name))


def read_file(path: str) -> bytes:
    """Return the bytes of an image's file.

    Raises:
        OSError: the file cannot be read, or cannot be an image: reading a device or a pipe would never end, and a film
            would fill the memory.
    """
    state = os.stat(path)
    if not stat.S_ISREG(state.st_mode):
        raise OSError(0, "not a regular file")
    size = f"{state.st_size / 2**20:,.0f} MiB"
    if state.st_size > _LARGEST:
        raise OSError(0, f"too large ({size})")
    with open(path, "rb") as file:
        beginning = file.read(max(map(len, FORMATS)))
        if state.st_size > _LARGE and not beginning.startswith(FORMATS):
            raise OSError(0, f"{size} that do not begin like an image")
        file.seek(0)
        return file.read()


def file_state(path: str) -> tuple[object, ...]:
    """Return a file's path, size in bytes and time of change in nanoseconds; the last two are None if it is missing."""
    try:
        state = os.stat(path)
    except OSError:
        return (path, None, None)
    return (path, state.st_size, state.st_mtime_ns)
