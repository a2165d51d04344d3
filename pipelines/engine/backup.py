"""The backup of the metadata: a copy of the database as the last run left it."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path

from kcnn import content

BACKUP = "metadata.backup.sqlite"


def back_up(db: sqlite3.Connection, root: Path) -> None:
    """Copy the database to `BACKUP`, by a rename.

    Where that fails the last copy stays, and the next run tries again.
    """
    backup = root / BACKUP
    partial = backup.with_suffix(".partial")
    with contextlib.suppress(OSError, sqlite3.Error):
        descriptor = os.open(root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # one run at a time
            partial.unlink(missing_ok=True)
            db.execute("VACUUM INTO ?", [str(partial)])
            content.flush_one(partial)
            partial.replace(backup)
        finally:
            os.close(descriptor)
