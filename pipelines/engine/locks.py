"""Locks that tell whether a run is alive: its process holds one, and the system takes it away with the process."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

_held: set[int] = set()


def _close_in_fork() -> None:
    """Close the descriptors in a forked worker: one that outlives its parent would hold the lock as well."""
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)


def _lock_path(root: Path, run: int) -> Path:
    return root / ".system" / f"run-{run}.lock"


@contextlib.contextmanager
def hold_lock(root: Path, run: int) -> Iterator[None]:
    """Hold the run's lock, and remove its file in the end."""
    path = _lock_path(root, run)
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        path.unlink(missing_ok=True)
        _held.discard(descriptor)
        os.close(descriptor)


def is_alive(root: Path, run: int) -> bool:
    """Return whether a process holds the run's lock; also where it cannot be asked, since the run is ended if not."""
    try:
        descriptor = os.open(_lock_path(root, run), os.O_RDONLY | os.O_NONBLOCK)  # which waits for no pipe's writer
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that ask do not take each other for it
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def remove_dead_locks(root: Path) -> None:
    """Remove the locks of dead runs. Call it within a transaction: a run makes its lock and holds it within one.

    What is no file, or has another name, is none of them.
    """
    for path in (root / ".system").glob("run-*.lock"):
        number = re.fullmatch(r"run-([0-9]{1,15})\.lock", path.name)
        if number and path.is_file() and not path.is_symlink() and not is_alive(root, int(number[1])):
            path.unlink(missing_ok=True)
