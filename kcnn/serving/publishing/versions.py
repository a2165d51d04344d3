"""A folder of numbered versions, as TensorFlow Serving watches it: the highest is served.

A version appears by a rename and goes by one: whoever looks sees all of it or nothing. What is being written, or on its
way out, has a hidden name, which TensorFlow Serving passes over. What is whole is never changed.

That the highest is served is the one rule, which TensorFlow Serving follows with a configuration and without one, and
with it the local server, `load_classifier` and the next run's comparison with the last version. `rollback` keeps to it.

Clients may also ask for a label, "stable" or "canary" (LABELS), instead of a number. A label stands on the highest
version until `label` puts it on another: <folder>/labels.json holds those, label → number.
"""

import contextlib
import datetime
import fcntl
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kcnn import content
from kcnn.errors import UserError, nearest
from kcnn.tables import aligned

LABELS = ("stable", "canary")
CARD = Path("assets.extra", "card.json")  # within a version
FEWEST = 2  # while a version appears, a server that has just started may still be reading the one before
_ABANDONED = 24 * 3600.0  # seconds without a change, after which whoever wrote here is gone, on whatever machine
_PARTIAL, _REMOVED = ".partial", ".removed"


def versions(folder: Path) -> list[Path]:
    """The versions there are, the oldest first."""
    return sorted((entry for entry in folder.glob("*") if entry.name.isdecimal()), key=lambda entry: int(entry.name))


def whole(folder: Path) -> list[Path]:
    """The versions that hold a SavedModel, the oldest first."""
    return [version for version in versions(folder) if (version / "saved_model.pb").is_file()]


def find(path: str | os.PathLike) -> Path:
    """What is served from there: the folder itself, if it holds a SavedModel, or the highest of its versions.

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
    return folder if (folder / "saved_model.pb").is_file() else next(reversed(whole(folder)), None)


def named(model: str, saved_models: str | os.PathLike) -> Path:
    """The folder that a user means by a model's name in `saved_models`, or by a path; a folder's name may be either."""
    path, published = Path(model), Path(saved_models, model)
    return path if os.sep in model or (path.is_dir() and not published.is_dir()) else published


def published(folder: Path) -> Path:
    """`folder`, which holds versions.

    Raises:
        UserError: it holds none.
    """
    if not versions(folder):
        names = [path.name for path in sorted(folder.parent.glob("*")) if versions(path)]
        hint = nearest(folder.name, names) if names else "there is none"
        raise UserError(f"no published model in {folder}: {hint}")
    return folder


def next_version(folder: Path) -> int:
    """One more than the highest version in `folder`."""
    return 1 + max((int(entry.name) for entry in versions(folder)), default=0)


def digest(version: Path) -> str:
    """sha256 of what of a version decides its answers: all but `assets.extra`."""
    return content.fingerprint(version, without=["assets.extra"])


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


def keep(folder: Path, number: int) -> list[str]:
    """Removes all but the `number` newest versions, the oldest first; returns the names of those removed. Versions on
    which a label was put stay.

    Raises:
        ValueError: `number` is less than 2: a server may be reading the last but one.
    """
    if number < FEWEST:
        raise ValueError(f"{number} versions to keep: expected {FEWEST} or more")
    removed, labelled = [], set(put_labels(folder).values())
    for version in versions(folder)[:-number]:
        if int(version.name) in labelled:
            continue
        hidden = folder / f".{version.name}.{platform.node()}.{os.getpid()}{_REMOVED}"
        with contextlib.suppress(FileNotFoundError):  # another run was quicker
            version.rename(hidden)
            removed.append(version.name)
            shutil.rmtree(hidden, ignore_errors=True)
    return removed


def rollback(folder: Path, number: int, command: str) -> Path:
    """Makes the model of an earlier version the served one: publishes it again, under the next number.

    Nothing is removed or changed, and to take a rollback back is a rollback. The alternative, a configuration that pins
    TensorFlow Serving to the old number, binds only the servers that read it, makes "the highest" a lie for all others,
    and silently keeps back every model that is published after it.

    The files are hard links where the file system has them, so that it needs neither time nor a disk with room; but for
    the card, in which "rollback" tells copy_of (the number under which the model was first published), replaces (that
    which was served till now), when and by which command. A label that was put on the replaced version moves along.

    Args:
        folder: the published model's.
        number: the version to go back to.
        command: for the card.

    Raises:
        UserError: there is no such version, or it is what is served already.
    """
    source, served = folder / str(number), versions(folder)[-1:]
    check(folder, number)
    if digest(source) == digest(served[0]):
        raise UserError(f"{source}: is served already" + f", as {served[0]}" * (source != served[0]))
    replaced = int(served[0].name)
    card = read_card(source) or {}
    card["rollback"] = {
        "copy_of": original(source),
        "replaces": replaced,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
    }

    def write(staged: Path) -> None:
        shutil.copytree(source, staged, copy_function=_link)
        (staged / CARD).unlink(missing_ok=True)  # the link, before a file of the same name is written
        write_card(staged, card)

    version = publish(folder, write)
    with exclusive(folder):
        moved = {label: int(version.name) for label, on in put_labels(folder).items() if on == replaced}
        if moved:
            _write_labels(folder, {**put_labels(folder), **moved})
    return version


def check(folder: Path, number: int) -> None:
    """Raises UserError unless the version is there."""
    if not (folder / str(number) / "saved_model.pb").is_file():
        names = [version.name for version in versions(folder)]
        raise UserError(f"{folder}: no version {number}; there are {', '.join(names) or 'none'}")


def original(version: Path) -> int:
    """The number under which its model was first published: another than its own after a rollback."""
    return ((read_card(version) or {}).get("rollback") or {}).get("copy_of", int(version.name))


def labels(folder: Path) -> dict[str, int]:
    """The version on which each label stands; nothing without versions."""
    there = whole(folder)
    return {label: put_labels(folder).get(label, int(there[-1].name)) for label in LABELS} if there else {}


def put_labels(folder: Path) -> dict[str, int]:
    """The labels that were put on a version, as far as that is still there.

    Raises:
        UserError: somebody wrote something else to labels.json.
    """
    path = folder / "labels.json"
    try:
        put = {name: int(number) for name, number in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise UserError(f'{path}: expected labels and versions, as in {{"stable": 3}}') from None
    return {name: number for name, number in put.items() if (folder / str(number)).is_dir()}


def label(folder: Path, changes: Mapping[str, int | None]) -> dict[str, int]:
    """Puts labels on versions, or with None on the highest, whichever that will be; returns all of them.

    Raises:
        UserError: there is no such version or label.
    """
    for name, number in changes.items():
        if name not in LABELS:
            raise UserError(f"label {name!r}: {nearest(name, LABELS)}")
        if number is not None:
            check(folder, number)
    if changes:
        with exclusive(folder):
            _write_labels(folder, {**put_labels(folder), **changes})
    return labels(folder)


def table(folder: Path) -> str:
    """The versions for people, a line each: number, labels, and of which it is a copy."""
    standing = labels(folder)
    rows = []
    for version in versions(folder):
        on = [name for name, number in standing.items() if number == int(version.name)]
        copied = original(version)
        rows.append((version.name, ", ".join(on), f"copy of {copied}" if copied != int(version.name) else ""))
    number, *rest = rows[-1]
    return aligned([("version", "labels", ""), *rows[:-1], (f"{number} (served)", *rest)])


def _write_labels(folder: Path, numbers: Mapping[str, int | None]) -> None:
    kept = {name: number for name, number in sorted(numbers.items()) if number is not None}
    replace(folder / "labels.json", json.dumps(kept, indent=2) + "\n")


def replace(path: Path, text: str) -> None:
    """Writes a file beside the versions, by a rename: whoever reads it reads all of it."""
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


def read_card(version: Path) -> dict[str, Any] | None:
    """What a version's card says; None where there is none."""
    try:
        return json.loads((version / CARD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_card(version: Path, card: Mapping[str, Any]) -> None:
    """Writes `card`, whatever JSON it holds, to `assets.extra/card.json` of an export; raises ValueError for NaN."""
    text = json.dumps(card, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path = version / CARD
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")  # of file names that are no UTF-8


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """One at a time changes what lies beside the versions; on file systems without locks, whoever likes."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # no links here
        shutil.copy2(source, target)


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
