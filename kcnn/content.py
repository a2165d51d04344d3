"""What a folder holds, by content and by size; and that the disk has it."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kcnn.progress import bar

T = TypeVar("T")

_PATIENCE = 2.0  # seconds of a user who is told nothing
THREADS = 16  # they wait for the disk, which takes many files at once; hashing takes as many cores as there are


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _files(folder: Path, without: Sequence[str]) -> list[Path]:
    """Hidden ones aside, such as an editor puts beside what it has open."""
    found = ((path, path.relative_to(folder).parts) for path in folder.rglob("*"))
    return sorted(
        path
        for path, parts in found
        if parts[0] not in without and not any(part.startswith(".") for part in parts) and path.is_file()
    )


def _map(function: Callable[[Path], T], paths: Sequence[Path], description: str) -> list[T]:
    with ThreadPoolExecutor(THREADS) as pool:
        done = pool.map(function, paths)
        return list(bar(done, total=len(paths), description=description, unit="file", after=_PATIENCE))


def fingerprint(folder: Path, without: Sequence[str] = ()) -> str:
    """sha256 of the content: of the files' relative names, sorted, each with the sha256 of its bytes; all but what
    stands under the names `without` in it.
    """
    digest = hashlib.sha256()
    files = _files(folder, without)
    for path, content in zip(files, _map(sha256, files, "Hashing"), strict=True):
        digest.update(f"{content}  {path.relative_to(folder).as_posix()}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def size(folder: Path, without: Sequence[str] = ()) -> tuple[int, int]:
    """How many files, and their bytes; likewise."""
    sizes = [path.stat().st_size for path in _files(folder, without)]
    return len(sizes), sum(sizes)


def flush(folder: Path, without: Sequence[str] = ()) -> None:
    """Flush what is in the folder to the disk itself, lest a failing power leaves a name without its content; all but
    what stands under the names `without` in it.
    """
    paths = [path for path in folder.rglob("*") if path.relative_to(folder).parts[0] not in without]
    _map(flush_one, [*paths, folder], "Writing to the disk")


def flush_one(path: Path) -> None:
    """One file, or a folder's list of names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
