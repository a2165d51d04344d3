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

    def enter(self, folder: _Folder, entry: "os.DirEntry[str]") -> _Folder | None:
        """Return the folder that an entry of `folder` is or leads to; None where it is not to be walked."""
        path = os.path.join(folder.path, entry.name)
        if not entry.is_symlink():
            real = os.path.join(folder.real, entry.name)
            self._walked.add(real)
            return _Folder(path, real, folder.above | {real}, folder.linked)
        real = os.path.realpath(path)
        if real in folder.above or (folder.linked and real in self._walked):
            return None
        return self._follow(path, real, folder.above, linked=True)

    def files(self, begin: _Folder) -> Iterator[FoundFile]:
        """Yield the files below a folder, sorted, without hidden ones, leftovers, pipes, sockets and devices."""
        waiting: list[Iterator[FoundFile | _Folder]] = [iter(self._entries(begin))]
        while waiting:
            found = next(waiting[-1], None)
            if found is None:
                waiting.pop()
            elif isinstance(found, _Folder):
                waiting.append(iter(self._entries(found)))
            else:
                yield found

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
                if inner := self.enter(folder, entry):
                    yield inner
            elif stat.S_ISREG(state.st_mode):
                yield FoundFile(path, state.st_size)


def _list(folder: _Folder) -> list["os.DirEntry[str]"]:
    with os.scandir(folder.path or os.curdir) as listing:
        return sorted(listing, key=lambda entry: entry.name)


def match_pattern(pattern: str) -> list[str]:
    """Return the paths of the files and folders that a pattern stands for, sorted.

    *, ? and [ stand for letters of a name, and for hidden names only behind a "."; ** stands for any number of folders,
    and is at the end all that is below. What they stand for is no leftover. None of the paths is below another.
    """
    root = os.sep if pattern.startswith(os.sep) else ""
    parts = [part for part in pattern.split(os.sep) if part]
    walk = FolderWalk()
    found: set[str] = set()
    seen: set[tuple[str, int]] = set()  # a path and how many parts of the pattern it stands for
    waiting = [(walk.begin(root), 0)]
    while waiting:
        folder, done = waiting.pop()
        if (folder.path, done) in seen:
            continue
        seen.add((folder.path, done))
        part, last = parts[done], done + 1 == len(parts)
        if part == "**":
            if last:
                found.add(folder.path or os.curdir)
                continue
            waiting.append((folder, done + 1))
        elif not glob.has_magic(part):
            path = os.path.join(folder.path, part)
            if last and os.path.lexists(path):
                found.add(path)
            elif not last and os.path.isdir(path):
                waiting.append((walk.begin(path), done + 1))
            continue
        for entry in _readable(folder):
            if part == "**":
                if is_data(entry.name) and _is_folder(entry) and (inner := walk.enter(folder, entry)):
                    waiting.append((inner, done))
            elif _matches(entry.name, part):
                inner = walk.enter(folder, entry) if _is_folder(entry) else None
                if last and (inner or not _is_folder(entry)):
                    found.add(os.path.join(folder.path, entry.name))
                elif inner:
                    waiting.append((inner, done + 1))
    if pattern.endswith(os.sep):
        found = set(filter(os.path.isdir, found))
    return sorted(path for path in found if found.isdisjoint(map(str, Path(path).parents)))


def _readable(folder: _Folder) -> list["os.DirEntry[str]"]:
    try:
        return _list(folder)
    except OSError:  # nothing in it matches
        return []


def _matches(name: str, part: str) -> bool:
    hidden = name.startswith(".") and not part.startswith(".")
    return not hidden and not is_leftover(name) and fnmatch.fnmatchcase(name, part)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False
