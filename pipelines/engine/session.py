"""Sessions: a run under way, from its row in the database to its end, however it ends."""

import contextlib
import dataclasses
import os
import platform
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kcnn.errors import UserError
from pipelines.engine import locks, metadata
from pipelines.engine.backup import back_up
from pipelines.engine.damage import describe_failure, describe_room, explaining
from pipelines.engine.obstacles import describe_obstacle
from pipelines.engine.soundness import DamagedMetadataError, check_content


class NotBegunError(UserError):
    """The run was over before any work."""


@dataclasses.dataclass(frozen=True)
class Session:
    """A run under way.

    Attributes:
        db: the database.
        root: the pipeline's root folder.
        run: the run's number.
        steps: component, seconds, outcome and folders of each step so far, for the table at the end.
    """

    db: sqlite3.Connection
    root: Path
    run: int
    steps: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def open_session(root: Path, pipeline: str, record: Mapping[str, Any]) -> Iterator[Session]:
    """Begin a run, and end it in the database in the way that the block ends.

    Raises:
        UserError: the root cannot be written, or its disk lets nothing be read or written.
    """
    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            db = stack.enter_context(contextlib.closing(metadata.connect(root, create=True)))
            with explaining(root):
                check_content(db)
            stack.callback(back_up, db, root)
            with metadata.transaction(db):
                metadata.skip_taken_numbers(db, root)
                number = metadata.begin_run(db, pipeline, {**record, **describe_process()})
                stack.enter_context(locks.hold_lock(root, number))
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            place = getattr(error, "filename", None)
            named = f"{place}: " if place not in (None, str(root)) else ""
            room = describe_room(root)
            raise UserError(f"--pipeline_root {root}: cannot be written: {named}{reason}{room}") from None
        try:
            yield Session(db, root, number)
            with metadata.transaction(db):
                metadata.end_run(db, number, "COMPLETE")
        except BaseException as error:
            states = {KeyboardInterrupt: "INTERRUPTED", NotBegunError: "REFUSED"}
            state = states.get(type(error), "FAILED")
            # Unsaid, it counts as interrupted.
            with contextlib.suppress(sqlite3.Error, DamagedMetadataError), metadata.transaction(db):
                metadata.end_run(db, number, state, describe_error(error))
            if isinstance(error, sqlite3.Error | DamagedMetadataError):
                raise UserError(describe_failure(root, error)) from error
            if isinstance(error, OSError) and (obstacle := describe_obstacle(error, root)) is not None:
                raise UserError(f"--pipeline_root {root}: {obstacle}") from error
            raise


def describe_process() -> dict[str, Any]:
    """Return which process on which machine is at work, for the metadata."""
    return {"pid": os.getpid(), "host": platform.node()}


def describe_error(error: BaseException) -> str:
    """Return an error's class and message in one line, for the metadata."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
