"""The files beside the versions of a published model: one process at a time changes them, each by a rename."""

import contextlib
import fcntl
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kcnn.terminal import print_lines


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold the lock on the files beside the versions; on file systems without locks, hold nothing."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> None:
    """Rename a damaged file, or what is in its place, to a name that is free; nothing is lost."""
    names = (path.with_name(f"{path.name}.damaged{number or ''}") for number in itertools.count())
    aside = next(name for name in names if not os.path.lexists(name))
    path.rename(aside)
    print_lines(f"Note: {path} was damaged, and is now {aside}", file=sys.stderr)


def replace_file(path: Path, text: str) -> None:
    """Write a file beside the versions by a rename, so that readers see the old text or the new text, never a part.

    A folder in its place is put aside.

    Raises:
        OSError: the file cannot be written.
    """
    if path.is_dir() and not path.is_symlink():
        set_aside(path)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=".", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.rename(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
