"""The content of folders: digests, sizes, and flushing to the disk."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kcnn.leftovers import is_data
from kcnn.progress import bar
from kcnn.regular_files import open_regular

T = TypeVar("T")

_QUIET_SECONDS = 2.0  # work that takes less shows no progress bar
THREADS = 16  # more than cores: most threads wait for the disk


def sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path, without: Sequence[str]) -> list[Path]:
    """List the files of a folder that are data (`is_data`), sorted; without the names `without`."""
    found = ((path, path.relative_to(folder).parts) for path in folder.rglob("*"))
    return sorted(
        path for path, parts in found if parts[0] not in without and all(map(is_data, parts)) and path.is_file()
    )


def _map(function: Callable[[Path], T], paths: Sequence[Path], description: str) -> list[T]:
    with ThreadPoolExecutor(THREADS) as pool:
        done = pool.map(function, paths)
        return list(bar(done, total=len(paths), description=description, unit="file", after=_QUIET_SECONDS))


def fingerprint(folder: Path, without: Sequence[str] = ()) -> str:
    """Return the hexadecimal SHA-256 of a folder's content: of its files' relative names and their digests.

    Args:
        folder: the folder.
        without: names in the folder that do not count.
    """
    digest = hashlib.sha256()
    files = _files(folder, without)
    for path, content in zip(files, _map(sha256, files, "Hashing"), strict=True):
        digest.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def size(folder: Path, without: Sequence[str] = ()) -> tuple[int, int]:
    """Return the number of files of a folder and their bytes, without the names `without` in it."""
    sizes = [path.stat().st_size for path in _files(folder, without)]
    return len(sizes), sum(sizes)


def flush(folder: Path, without: Sequence[str] = ()) -> None:
    """Flush a folder to the disk itself, so that no power failure leaves a name without its content.

    Args:
        folder: the folder.
        without: names in the folder that are not flushed.
    """
    found = (path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in without)
    paths = [path for path in found if path.is_file() or path.is_dir()]  # to open a pipe would be to wait
    _map(flush_one, [*paths, folder], "Writing to the disk")


def flush_one(path: Path) -> None:
    """Flush one file, or a folder's list of names, to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:  # another user's, linked here: it is on the disk already
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
