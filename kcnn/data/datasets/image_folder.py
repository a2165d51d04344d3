"""A directory of class folders, or of train/val/test folders of class folders.

    photos/cat/a.jpg  photos/dog/b.png          photos/train/cat/a.jpg  photos/test/dog/b.png

`folder_layout` tells splits from classes. Every file that is data (`kcnn.leftovers`) counts as an image, whatever its
extension; ingestion excludes the files that are none. Class folders may nest; the first level is the class. A class
folder may be a link, but not to a folder above it or of other classes; other links to folders are not followed.
"""

import functools
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from kcnn.data.datasets import Dataset, ImageSource, digest_parts
from kcnn.data.datasets.folder_layout import NO_SPLIT, list_folder, read_layout
from kcnn.data.foreign_formats import HEAD, explain_format
from kcnn.data.input_pipeline.magic import FORMATS
from kcnn.data.records import MAX_MESSAGE_BYTES, UNLABELLED
from kcnn.errors import UserError
from kcnn.leftovers import is_data
from kcnn.regular_files import open_regular

_LARGE = 2**26  # bytes; a larger file is read only if it begins like an image
_LARGEST = MAX_MESSAGE_BYTES - 2**20  # bytes of a file that fits into a tf.Example


def _files(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """Yield each file below `folder`: its name, relative to `root`, and the reason why it is left out, or "".

    Raises:
        UserError: a folder cannot be read.
    """
    waiting = [folder]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(parent) as listing:
                entries = sorted((entry for entry in listing if is_data(entry.name)), key=lambda entry: entry.name)
        except OSError as error:
            raise UserError(f"--dataset {root}: the folder {parent} cannot be read: {error.strerror}") from None
        relative = "" if parent == root else os.path.relpath(parent, root)
        inner = [entry for entry in entries if _is_folder(entry)]
        links = [entry.name for entry in inner if entry.is_symlink()]
        there = {entry.name for entry in inner}
        yield from ((os.path.join(relative, entry.name), "") for entry in entries if entry.name not in there)
        yield from ((os.path.join(relative, name), "a link to a folder, which is not followed") for name in links)
        waiting.extend(parent / name for name in sorted(there.difference(links), reverse=True))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def load(root: Path) -> Dataset:
    """Open the class folders below `root`.

    Raises:
        UserError: there are no class folders, no file is in any of them, or a folder cannot be read.
    """
    layout = read_layout(root)
    expected = f"expected {root}/<class>/<image> or {root}/<train|val|test>/<class>/<image>"
    if not layout.classes:
        found = sum(1 for _ in _files(root, root))
        raise UserError(
            f"--dataset {root}: "
            + (f"{found} files but no class folders" if found else "the folder is empty")
            + f"; {expected}"
            + ("; pictures without classes are for main.py pretrain --objective rotation" if found else "")
        )
    read = _reader(root)

    def sources() -> Iterator[ImageSource]:
        for one in layout.classes:
            for name, reason in _files(one.folder, root):
                yield ImageSource(name, None if reason else one.label, one.split, read(name), reason)
        for folder in layout.beside:
            for name, reason in _files(folder, root):
                yield ImageSource(name, None, None, read(name), reason or NO_SPLIT)
        for parent, reason in layout.parents.items():
            for path in list_folder(parent, root)[1]:
                name = os.path.relpath(path, root)
                yield ImageSource(name, None, None, read(name), _why_no_folder(path) or reason)
        for folder, reason in layout.left_out.items():
            name = os.path.relpath(folder, root)
            yield ImageSource(name, None, None, read(name), reason)

    counts: Counter[str | None] = Counter()

    def states() -> Iterator[tuple[object, ...]]:
        for source in sources():
            counts[source.label] += 1
            yield (*file_state(os.path.join(root, source.filename)), source.label, source.split)

    digest = digest_parts(states())
    labels = tuple(sorted(label for label in counts if label is not None))
    if not labels:
        raise UserError(f"--dataset {root}: no files in its {len(layout.classes)} class folders; {expected}")
    empty = sorted({one.label for one in layout.classes} - {*labels})
    return Dataset(
        name=root.resolve().name,
        labels=labels,
        sources=sources,
        count=counts.total(),
        fingerprint=digest,
        flaws=layout.flaws,
        remarks=(f"class folders without a file, left out: {', '.join(empty)}",) if empty else (),
    )


def load_unlabelled(root: Path) -> Dataset:
    """Open all files below `root`, whatever its folders are called; train, val and test folders keep their split.

    Raises:
        UserError: other folders stand beside train, val and test, there is no file, or a folder cannot be read.
    """
    layout = read_layout(root)
    if layout.beside:
        raise UserError(f"--dataset {root}: {layout.flaws[0]}")
    splits = {folder.relative_to(root).parts: split for folder, split in layout.splits.items()}
    left_out = {os.path.relpath(folder, root): reason for folder, reason in layout.left_out.items()}
    read = _reader(root)

    def sources() -> Iterator[ImageSource]:
        for name, why in _files(root, root):
            first, second = (*name.split(os.sep), "")[:2]
            split = splits.get((first,)) or splits.get((first, second))
            reason = why or left_out.get(first, "")
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


def _why_no_folder(path: Path) -> str:
    """Return why a link is neither a file nor the folder that it may have been meant for, or ""."""
    try:
        os.stat(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return "a link to a folder above it" if path.is_dir() else ""


def read_file(path: str) -> bytes:
    """Return the bytes of an image's file.

    Raises:
        OSError: the file cannot be read, or cannot be an image: reading a device or a pipe would never end, and a film
            would fill the memory.
    """
    if "\0" in path:
        raise OSError(0, "a null character (NUL) in its name")
    with open_regular(path) as file:
        length = os.fstat(file.fileno()).st_size
        size = f"{length / 2**20:,.0f} MiB"
        if length > _LARGEST:
            raise OSError(0, f"too large ({size})")
        beginning = file.read(HEAD)
        if length > _LARGE and not beginning.startswith(tuple(FORMATS)):
            raise OSError(0, explain_format(beginning, path) or f"{size} that do not begin like an image")
        return beginning + file.read(_LARGEST)


def file_state(path: str) -> tuple[object, ...]:
    """Return a file's path, size in bytes and time of change in nanoseconds.

    The last two are None where it is missing, or a folder, which changes with what is beside the data.
    """
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return (path, None, None)
    return (path, None, None) if stat.S_ISDIR(state.st_mode) else (path, state.st_size, state.st_mtime_ns)
