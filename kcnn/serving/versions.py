"""A folder of numbered versions, as TensorFlow Serving watches it: the highest is served.

A version appears by a rename and goes by one: whoever looks sees all of it or nothing. What is being written, or on its
way out, has a hidden name, which TensorFlow Serving passes over.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

FEWEST = 2  # while a version appears, a server that has just started may still be reading the one before
_ABANDONED = 24 * 3600.0  # seconds without a change, after which whoever wrote here is gone, on whatever machine
_PARTIAL, _REMOVED = ".partial", ".removed"


def versions(folder: Path) -> list[Path]:
    """The versions there are, the oldest first."""
    return sorted((entry for entry in folder.glob("*") if entry.name.isdecimal()), key=lambda entry: int(entry.name))


def next_version(folder: Path) -> int:
    """One more than the highest version in `folder`."""
    return 1 + max((int(entry.name) for entry in versions(folder)), default=0)


def digest(version: Path) -> str:
    """sha256 of what of a version decides its answers: all but `assets.extra`."""
    content = hashlib.sha256()
    for path in sorted(path for path in version.rglob("*") if path.is_file()):
        name = path.relative_to(version)
        if name.parts[0] != "assets.extra":
            with path.open("rb") as file:
                content.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name.as_posix()}\n".encode())
    return content.hexdigest()


def publish(folder: Path, write: Callable[[Path], None]) -> Path:
    """Gives what `write` writes to the folder that it is handed, which is not there yet, the next version's number.

    Several may publish at once. What publishers left that died is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    home = Path(tempfile.mkdtemp(prefix=f".{platform.node()}.{os.getpid()}.", suffix=_PARTIAL, dir=folder))
    try:
        with _held(home):
            staged = home / "version"
            write(staged)
            for path in [*staged.rglob("*"), staged]:
                _flush(path)
            while True:
                version = folder / str(next_version(folder))
                try:
                    staged.rename(version)
                    break
                except OSError:
                    if not version.exists():  # otherwise another run took the number first
                        raise
            _flush(folder)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return version


def keep(folder: Path, number: int) -> list[str]:
    """Removes all but the `number` newest versions, the oldest first; returns the names of those removed.

    Raises:
        ValueError: `number` is less than 2: a server may be reading the last but one.
    """
    if number < FEWEST:
        raise ValueError(f"{number} versions to keep: expected {FEWEST} or more")
    removed = []
    for version in versions(folder)[:-number]:
        hidden = folder / f".{version.name}.{platform.node()}.{os.getpid()}{_REMOVED}"
        with contextlib.suppress(FileNotFoundError):  # another run was quicker
            version.rename(hidden)
            removed.append(version.name)
            shutil.rmtree(hidden, ignore_errors=True)
    return removed


def remove_leftovers(folder: Path) -> None:
    """Removes what killed publishers left half-written, or half-removed.

    Of this machine's, what nobody holds and whose process is gone. Others' processes cannot be seen from here: theirs
    goes when nothing has changed in it for a day.
    """
    for path in folder.glob(f".*{_REMOVED}"):
        shutil.rmtree(path, ignore_errors=True)  # nobody wants it, whoever is at it
    for path in folder.glob(f".*{_PARTIAL}"):
        found = re.fullmatch(rf"\.(.*)\.(\d+)\.[^.]+{re.escape(_PARTIAL)}", path.name)
        dead = found and found[1] == platform.node() and not _alive(int(found[2])) and not _is_held(path)
        if dead or _idle(path) > _ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _idle(folder: Path) -> float:
    """Seconds since anything in it changed; what a copy keeps of its original's times does not count."""
    try:
        return time.time() - max(path.lstat().st_ctime for path in [folder, *folder.rglob("*")])
    except OSError:  # it is just changing
        return 0.0


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """A lock on the folder itself, which the system takes away with the process; some file systems have none."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_held(folder: Path) -> bool:
    """By another process of this machine, also where its number tells nothing, as between containers."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # no locks here: the process' number must do
        return False
    finally:
        os.close(descriptor)


def _flush(path: Path) -> None:
    """Onto the disk itself, lest a failing power leaves a name without its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
