"""Damage of the metadata, and other errors of the database: in one line, with what can be done."""

import contextlib
import datetime
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from kcnn.errors import UserError
from pipelines.engine.backup import BACKUP
from pipelines.engine.soundness import DamagedMetadataError

FILE = "metadata.sqlite"
_IN_USE = ("SQLITE_BUSY", "SQLITE_LOCKED")
_REFUSED = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_NOMEM")


@contextlib.contextmanager
def explaining(root: Path) -> Iterator[None]:
    """Turn the errors of a database, and of rows that are not sound, into UserError that says what can be done."""
    try:
        yield
    except (sqlite3.Error, DamagedMetadataError, UnicodeDecodeError) as error:  # the last of SQLite's own messages
        raise UserError(describe_failure(root, error)) from error


def describe_failure(root: Path, error: Exception) -> str:
    """Return the words for an error of the database, with what can be done where it is damaged."""
    where = f"--pipeline_root {root}: {FILE}"
    if isinstance(error, DamagedMetadataError):
        return f"{where}: damaged: {error}; {_describe_way_out(root)}"
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(_IN_USE):
        return f"{where}: another process has locked it: {error}"
    if name.startswith(_REFUSED):
        return f"{where}: {error}{describe_room(root)}"
    return f"{where}: damaged: {error}; {_describe_way_out(root)}"


def _describe_way_out(root: Path) -> str:
    """Return what to do about a damaged database, in words with commands."""
    aside = f"mv {shlex.quote(str(root / FILE))}* ELSEWHERE"
    kept = "nothing was removed, and all folders stay"
    with contextlib.suppress(OSError):
        facts = (root / BACKUP).stat()
        time = datetime.datetime.fromtimestamp(facts.st_mtime, datetime.UTC).isoformat(" ", "minutes")
        back = f"cp {shlex.quote(str(root / BACKUP))} {shlex.quote(str(root / FILE))}"
        return f"{kept}; to go back to the record of {time[:16]} UTC: {aside}; {back}"
    return f"{kept}; to begin a new record, for which the work is done again: {aside}"


def describe_room(root: Path) -> str:
    """Return the words for a disk that is full, which SQLite does not always say; "" where there is room."""
    free = shutil.disk_usage(root).free if root.exists() else 2**20
    return f" ({free // 2**10} KiB are left on its disk)" if free < 2**20 else ""
