"""A folder of numbered versions, as TensorFlow Serving watches it: the highest is served.

A version appears by a rename and goes by a rename: a reader sees all of it or nothing. A version that is being written
or removed has a hidden name, which TensorFlow Serving ignores. A complete version is never changed.

There is one rule: the highest version is served. TensorFlow Serving follows it with a configuration and without one,
and so do the local server, `load_classifier` and the next run's comparison with the last version. A rollback keeps to
it too (`kcnn.serving.publishing.rollback`).
"""

import contextlib
import fcntl
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kcnn import content
from kcnn.errors import UserError, nearest

REMOVED_SUFFIX = ".removed"  # of the hidden name of a version that is being removed
HIGHEST = 2**63 - 1  # TensorFlow Serving's and gRPC's version numbers are int64
_PARTIAL_SUFFIX = ".partial"  # of the hidden name of a version that is being written
_ABANDONED = 24 * 3600.0  # seconds without a change, after which the writer is taken for dead, on whatever machine


def version_number(name: str) -> int | None:
    """Return the version of a name in a folder or a request; None unless it is 0 to 9 alone, and an int64."""
    if not (name.isascii() and name.isdecimal()):
        return None
    digits = name.lstrip("0") or "0"
    # Python refuses to read numbers of thousands of digits.
    return int(digits) if len(digits) <= len(str(HIGHEST)) and int(digits) <= HIGHEST else None


def list_versions(folder: Path) -> list[Path]:
    """Return the versions in a folder, the oldest first. TensorFlow Serving too ignores other names."""
    found = [(number, entry) for entry in folder.glob("*") if (number := version_number(entry.name)) is not None]
    return [entry for _, entry in sorted(found)]


def complete_versions(folder: Path) -> list[Path]:
    """Return the versions that hold a SavedModel, the oldest first."""
    return [version for version in list_versions(folder) if (version / "saved_model.pb").is_file()]


def check_version(folder: Path, number: int) -> None:
    """Raise UserError unless the version is in the folder."""
    if not (folder / str(number) / "saved_model.pb").is_file():
        names = [version.name for version in list_versions(folder)]
        raise UserError(f"{folder}: no version {number}; there are {', '.join(names) or 'none'}")


def find_saved_model(path: str | os.PathLike) -> Path:
    """Return the SavedModel that is served from a folder: the folder itself, or the highest of its versions.

    Raises:
        UserError: there is no SavedModel.
    """
    given = Path(path)
    found = _served(given)
    if found is None:
        around = given if given.is_dir() else given.parent
        models = [str(model) for model in sorted(around.glob("*")) if _served(model)]
        hint = f"; {nearest(str(given), models)}" if models else ""
        raise UserError(f"no saved model in {str(given)!r}: expected saved_model.pb, or numbered versions of it{hint}")
    return found


def _served(folder: Path) -> Path | None:
    if (folder / "saved_model.pb").is_file():
        return folder
    return next(reversed(complete_versions(folder)), None)


def model_folder(model: str, saved_models: str | os.PathLike) -> Path:
    """Return the folder that a user means by a model's name or by a path.

    Args:
        model: the name of a model in `saved_models`, or a path. A name in `saved_models` comes first.
        saved_models: the folder of the published models.
    """
    path, published = Path(model), Path(saved_models, model)
    return path if os.sep in model or (path.is_dir() and not published.is_dir()) else published


def published_folder(folder: Path) -> Path:
    """Return the folder, which holds versions.

    Raises:
        UserError: it holds none.
    """
    if not list_versions(folder):
        names = [path.name for path in sorted(folder.parent.glob("*")) if list_versions(path)]
        hint = nearest(folder.name, names) if names else "there is none"
        raise UserError(f"no published model in {folder}: {hint}")
    return folder


def next_version(folder: Path) -> int:
    """Return the number after the highest version in a folder.

    Raises:
        UserError: there is none.
    """
    highest = max((int(entry.name) for entry in list_versions(folder)), default=0)
    if highest == HIGHEST:
        raise UserError(f"{folder}: version {highest} is the highest that there can be: rename it")
    return 1 + highest


def version_digest(version: Path) -> str:
    """Return the SHA-256 of the files that decide a version's answers: all files but those in `assets.extra`."""
    return content.fingerprint(version, without=["assets.extra"])


def publish_version(folder: Path, write: Callable[[Path], None]) -> Path:
    """Publish a new version, under the next number. Several processes may publish at once.

    The partial versions of publishers that died are removed.

    Args:
        folder: the folder of the versions; it is made where there is none.
        write: writes the version's files into the folder that it gets, which does not exist yet.

    Returns:
        The version.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    home = Path(tempfile.mkdtemp(prefix=f".{platform.node()}.{os.getpid()}.", suffix=_PARTIAL_SUFFIX, dir=folder))
    try:
        with _locked(home):
            staged = home / "version"
            write(staged)
            content.flush(staged)
            while True:
                version = folder / str(next_version(folder))
                try:
                    staged.rename(version)
                    break
                except OSError:
                    if not version.exists():  # otherwise another run took the number first
                        raise
            content.flush_one(folder)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return version


def remove_leftovers(folder: Path) -> None:
    """Remove the partial versions of killed publishers, and the versions whose removal was killed.

    A partial version of this machine goes when nobody holds its lock and its process is dead. The processes of other
    machines cannot be seen from here: their partial versions go when nothing has changed in them for a day.
    """
    for path in folder.glob(f".*{REMOVED_SUFFIX}"):
        shutil.rmtree(path, ignore_errors=True)  # nobody needs it, also if another process removes it now
    for path in folder.glob(f".*{_PARTIAL_SUFFIX}"):
        found = re.fullmatch(rf"\.(.*)\.(\d+)\.[^.]+{re.escape(_PARTIAL_SUFFIX)}", path.name)
        dead = found and found[1] == platform.node() and not _is_alive(int(found[2])) and not _is_locked(path)
        if dead or _idle_seconds(path) > _ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process of another user
        return True
    return True


def _idle_seconds(folder: Path) -> float:
    """Return the seconds since the last change in a folder. Times that a copy keeps of its original do not count."""
    try:
        return time.time() - max(path.lstat().st_ctime for path in [folder, *folder.rglob("*")])
    except OSError:  # a file has gone while it was looked at
        return 0.0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder. The system releases it when the process ends; some file systems have no locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _is_locked(folder: Path) -> bool:
    """Return whether another process of this machine holds the lock, also one in another container."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:  # the file system has no locks: the number of the process decides
        return False
    finally:
        os.close(descriptor)
