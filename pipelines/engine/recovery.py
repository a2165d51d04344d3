"""Recovery: what a run finds of others that were killed, or whose machine lost its power."""

import importlib
import sys
from pathlib import Path

from pipelines.engine import locks, metadata
from pipelines.engine.component import Artifact
from pipelines.engine.execution import (
    GIVEN_UP,
    describe_outputs,
    partial_folder,
    publish_outputs,
    remove_folders,
    whole_folder,
)
from pipelines.engine.session import Session


def end_what_dead_runs_left(session: Session) -> None:
    """End the executions of dead runs, and remove what nobody goes on from.

    An execution whose component had returned is published, and so is one that did its work elsewhere (a model is
    published). Any other is FAILED. Its folders are removed, but for those of resumable components, where the next run
    goes on.
    """
    db, root = session.db, session.root
    whole = []
    with metadata.transaction(db):
        locks.remove_dead_locks(root)
        for row in metadata.find_executions(db, "state = 'RUNNING'"):
            if locks.is_alive(root, row["properties"]["run"]):
                continue
            if _has_returned(root, row) or _is_recovered(root, row):
                whole.append(row)
                metadata.set_execution(db, row["id"], {"run": session.run})  # which keeps it from other runs
            else:
                named = any(whole_folder(root, *end).exists() for end in _ends(row))
                resumable = row["properties"]["resumable"] and not named
                metadata.fail_execution(db, row["id"], {"error": "killed", "resumable": resumable})
    for row in whole:
        returned = row["properties"].get("returned") or describe_outputs(_open_outputs(root, row))
        with metadata.transaction(db):
            metadata.set_execution(db, row["id"], {"returned": returned})
        publish_outputs(session, row["type"], row["id"], returned)
    for row in metadata.find_executions(db, GIVEN_UP):
        remove_folders(root, row)


def _ends(row: metadata.Row) -> list[tuple[str, str, int]]:
    """Return component, output and number of each output of an execution, as the names of its folders take them."""
    return [(row["type"], name, row["id"]) for name in row["properties"]["outputs"]]


def _has_returned(root: Path, row: metadata.Row) -> bool:
    """Return whether the component had returned, and what it made is all there."""
    there = (whole_folder(root, *end).exists() or partial_folder(root, *end).exists() for end in _ends(row))
    return bool(row["properties"].get("returned")) and all(there)


def _is_recovered(root: Path, row: metadata.Row) -> bool:
    """Return whether all that a killed component was to make is whole though it did not return."""
    outputs = _open_outputs(root, row)
    return len(outputs) == len(row["properties"]["outputs"]) > 0 and all(a.recovered() for a in outputs.values())


def _open_outputs(root: Path, row: metadata.Row) -> dict[str, Artifact]:
    """Return name → artifact of what an execution was making, without those whose class is no longer known."""
    found = {}
    for name, class_name in row["properties"]["outputs"].items():
        kind = _find_kind(row["properties"].get("modules", {}).get(name, ""), class_name)
        if kind is not None:
            found[name] = kind(partial_folder(root, row["type"], name, row["id"]))
    return found


def _find_kind(module: str, name: str) -> type[Artifact] | None:
    """Return the class of an artifact; None where the program has none of this name, or another thing.

    Modules that are not loaded are looked for in the program alone.
    """
    if module not in sys.modules and module.partition(".")[0] != __name__.partition(".")[0]:
        return None
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, ValueError, AttributeError):  # a class of another version of the program
        return None
    return kind if isinstance(kind, type) and issubclass(kind, Artifact) else None
