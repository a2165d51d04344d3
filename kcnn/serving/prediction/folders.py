"""Files of folders and of patterns, each once; links to folders are followed, and the walk ends wherever they lead."""

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kcnn.leftovers import is_data, is_leftover


class FoundFile(NamedTuple):
    """A file of a folder or of a pattern.

    Attributes:
        path: its path, as the user would write it.
        size: its bytes; 0 where they are not known.
        obstacle: why the folder of this path cannot be read; None for a file.
    """

    path: str
    size: int = 0
    obstacle: str | None = None


class _Folder(NamedTuple):
    """A folder on the way.

    Attributes:
        path: its path; "" for the present one.
        real: its path without links.
        above: the real paths of itself and of all folders above it, by whatever links it was reached.
        linked: whether a link leads to it, or to a folder above it.
    """

    path: str
    real: str
    above: frozenset[str]
    linked: bool


class FolderWalk:
    """A walk through folders.

    A link is followed, but not to a folder above, and behind another link not to a folder that was walked already: so
    each link is followed once, however many lead to one another.
    """

    def __init__(self) -> None:
        self._walked: set[str] = set()

    def begin(self, path: str) -> _Folder:
        """Return the folder where a walk begins, which the user names."""
        return self._follow(path, os.path.realpath(path), frozenset(), linked=False)

    def _follow(self, path: str, real: str, above: frozenset[str], linked: bool) -> _Folder:
        self._walked.add(real)
        return _Folder(path, real, above.union([real], map(str, Path(real).parents)), linked)

    def enter(self, folder: _Folder, name: str) -> _Folder | None:
        """Return the folder that a name in `folder` is or leads to; None where it is not to be walked."""
        path = os.path.join(folder.path, name)
        if name in (os.curdir, os.pardir):
            return self.begin(path)
        if not os.path.islink(path):
            real = os.path.join(folder.real, name)
            self._walked.add(real)
            return _Folder(path, real, folder.above | {real}, folder.linked)
        real = os.path.realpath(path)
        if real in folder.above or (folder.linked and real in self._walked):
            return None
        return self._follow(path, real, folder.above, linked=True)

    def files(self, begin: _Folder) -> Iterator[FoundFile]:
        """Yield the files below a folder, sorted, without hidden ones, leftovers, pipes, sockets and devices."""
        waiting = [self._entries(begin)]
        empty = True
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
            elif isinstance(found, _Folder):
                waiting.append(self._entries(found))
            else:
                empty = False
                yield found
        if empty:
            yield FoundFile(begin.path, obstacle="no files in this folder")

    def _entries(self, folder: _Folder) -> Iterator[FoundFile | _Folder]:
        try:
            entries = _list(folder)
        except OSError as error:
            yield FoundFile(folder.path, obstacle=error.strerror or str(error))
            return
        for entry in filter(lambda entry: is_data(entry.name), entries):
            path = os.path.join(folder.path, entry.name)
            try:
                state = entry.stat()
            except OSError:  # a link to nowhere: reading it raises the error
                yield FoundFile(path)
                continue
            if stat.S_ISDIR(state.st_mode):
                if inner := self.enter(folder, entry.name):
                    yield inner
            elif stat.S_ISREG(state.st_mode):
                yield FoundFile(path, state.st_size)


def _list(folder: _Folder) -> list["os.DirEntry[str]"]:
    with os.scandir(folder.path or os.curdir) as listing:
        return sorted(listing, key=lambda entry: entry.name)


def named_file(path: str) -> FoundFile:
    """Return a file that the user or a pattern names; reading it raises the error where it is none."""
    try:
        return FoundFile(path, os.stat(path).st_size)
    except OSError:
        return FoundFile(path)


def folder_files(path: str) -> Iterator[FoundFile]:
    """Yield the files below a folder, as `FolderWalk.files` does."""
    walk = FolderWalk()
    return walk.files(walk.begin(path))


def pattern_files(pattern: str) -> Iterator[FoundFile]:
    """Yield the files that a pattern stands for, and those below the folders that it stands for, sorted.

    *, ? and [ stand for letters of a name, and for hidden names only behind a "."; ** stands for any number of folders,
    and at the end for all that is below. What they stand for is no leftover.
    """
    walk = FolderWalk()
    found = _match(pattern, walk)
    for path, folder in sorted(found.items()):
        if found.keys().isdisjoint(_above(path)):  # else it comes with the folder
            yield from walk.files(folder) if folder else [named_file(path)]


def _match(pattern: str, walk: FolderWalk) -> dict[str, _Folder | None]:
    """Return path → folder, None for a file, of what a pattern stands for."""
    parts = [part for part in pattern.split(os.sep) if part]
    known = next(number for number, part in enumerate(parts) if glob.has_magic(part))  # parts that are no pattern
    root = os.path.join(os.sep if pattern.startswith(os.sep) else "", *parts[:known])
    found: dict[str, _Folder | None] = {}
    seen: set[tuple[str, int]] = set()  # a path and how many parts of the pattern it stands for
    waiting = [(walk.begin(root), known)]
    while waiting:
        folder, done = waiting.pop()
        if (folder.path, done) in seen:
            continue
        seen.add((folder.path, done))
        part, last = parts[done], done + 1 == len(parts)
        if part == "**" and last:
            found[folder.path] = folder
            continue
        if part == "**":
            waiting.append((folder, done + 1))
        for name in _names(folder, part):
            path = os.path.join(folder.path, name)
            if not os.path.isdir(path):
                if last and not pattern.endswith(os.sep):
                    found[path] = None
            elif inner := walk.enter(folder, name):
                if last:
                    found[path] = inner
                else:
                    waiting.append((inner, done + (part != "**")))
    return found


def _above(path: str) -> Iterator[str]:
    """Yield the paths of the folders above a path, as it names them."""
    while path.strip(os.sep):
        path = os.path.dirname(path)
        yield path


def _names(folder: _Folder, part: str) -> list[str]:
    """Return the names in a folder that a part of a pattern stands for."""
    if not glob.has_magic(part):
        return [part] if os.path.lexists(os.path.join(folder.path, part)) else []
    try:
        names = [entry.name for entry in _list(folder)]
    except OSError:  # nothing in it matches
        return []
    if part == "**":
        return list(filter(is_data, names))
    shown = (name for name in names if part.startswith(".") or not name.startswith("."))
    return [name for name in shown if not is_leftover(name) and fnmatch.fnmatchcase(name, part)]
