"""Executions: a component at work in folders that have no name yet, and the publication of what it made.

An execution is RUNNING in the database before its outputs' folders, `<execution>.partial`, are made. When the component
has returned, these are flushed to the disk and described, and one transaction keeps the description. From there on
nothing is asked of the component again: `publish_outputs` does the rest, here or in the next run.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcnn import content
from kcnn.errors import UserError
from kcnn.json_files import DamagedFileError
from kcnn.terminal import print_lines
from pipelines.engine import metadata
from pipelines.engine.component import Artifact, Node
from pipelines.engine.obstacles import describe_obstacle
from pipelines.engine.session import Session, describe_error, describe_process

_RESUMABLE = "json_extract(properties, '$.resumable')"
GIVEN_UP = f"state = 'FAILED' AND NOT {_RESUMABLE}"
_SAME_KEY = f"state = 'FAILED' AND {_RESUMABLE} AND key = ?"
_SAME_WORK = f"state = 'FAILED' AND {_RESUMABLE} AND type = ? AND json_extract(properties, '$.work') = ?"


def describe_execution(session: Session, node: Node, code: str, work: str = "") -> dict[str, Any]:
    """Return what the database keeps of an execution; `work` is its key but for the program's code."""
    outputs = node.component.output_types
    return {
        "parameters": node.parameters,
        "code": code,
        "outputs": {name: kind.__name__ for name, kind in outputs.items()},
        "modules": {name: kind.__module__ for name, kind in outputs.items()},
        "work": work,
        "run": session.run,
        "error": None,
        "returned": None,
        **describe_process(),
    }


def begin_or_resume(
    session: Session,
    node: Node,
    inputs: Mapping[str, metadata.Row],
    *,
    key: str,
    code: str,
    work: str,
    resume: bool,
) -> int:
    """Begin an execution with empty folders, or with `resume` the last unfinished one of its key with its folders.

    Returns:
        its number.
    """
    db, resumable = session.db, node.component.resumable
    new = describe_execution(session, node, code, work)
    with metadata.transaction(db):
        left = metadata.find_executions(db, _SAME_KEY, key)
        other = metadata.find_executions(db, _SAME_WORK, node.name, work) if not left else []
        resumed = resume and resumable and bool(left)
        if resumed:
            last = left.pop(0)
            execution, before = last["id"], last["properties"]["run"]
            metadata.set_execution(db, execution, new, state="RUNNING", started=time.time())
        else:
            execution = metadata.begin_execution(db, node.name, key, {**new, "resumable": resumable})
        metadata.connect_inputs(db, session.run, execution, inputs)
        for row in left:  # given up, in the database before the folders: nobody resumes from half of them
            metadata.set_execution(db, row["id"], {"resumable": False})
    for row in left:
        remove_folders(session.root, row)
    if resumed:
        print_lines(f"{node.name}: goes on where run {before} ended")
    elif other:
        print_lines(f"{node.name}: another version of the program began this; it begins anew")
    return execution


def execute(session: Session, node: Node, execution: int, inputs: Mapping[str, metadata.Row]) -> None:
    """Let the component work, and publish what it made.

    Raises:
        UserError: the component raised it, the disk let nothing be read or written, or an input is not what it was.
        BaseException: whatever else the component raised.
    """
    outputs = {
        name: kind(partial_folder(session.root, node.name, name, execution))
        for name, kind in node.component.output_types.items()
    }
    print_lines(f"{node.name}: at work in {', '.join(str(artifact.path) for artifact in outputs.values())}")
    taken = open_inputs(session, node, inputs)
    try:
        for artifact in outputs.values():
            artifact.path.mkdir(parents=True, exist_ok=True)
        node.component.function(**node.parameters, **taken, **outputs)
        returned = describe_outputs(outputs)
    except BaseException as error:
        _fail(session, node, execution, outputs, error)
        told = isinstance(error, UserError) and not isinstance(error, DamagedFileError)
        if told or not isinstance(error, Exception):
            raise
        folders = [artifact.path for artifact in outputs.values()]
        if (obstacle := describe_obstacle(error, folders[0], folders)) is not None:
            advice = "; once it can, the same command goes on from what was saved" if node.component.resumable else ""
            raise UserError(f"{node.name}: {obstacle}{advice}") from error
        check_unchanged(session, node, inputs, taken, error)
        raise
    with metadata.transaction(session.db):
        metadata.set_execution(session.db, execution, {"returned": returned})
    publish_outputs(session, node.name, execution, returned)
    _give_up_what_is_done_again(session, node, execution)


def check_unchanged(
    session: Session, node: Node, inputs: Mapping[str, metadata.Row], taken: Mapping[str, Artifact], error: Exception
) -> None:
    """Raise UserError from an error where an input that may have caused it is not what it was made."""
    for key, row in inputs.items():
        if fingerprint_artifact(taken[key]) != row["fingerprint"]:
            raise UserError(f"{node.name}: {describe_change(session, row, 'has changed')}") from error


def open_inputs(session: Session, node: Node, inputs: Mapping[str, metadata.Row]) -> dict[str, Artifact]:
    """Return name → artifact of what a node takes."""
    return {key: port.type(session.root / inputs[key]["uri"]) for key, port in node.inputs.items()}


def _fail(session: Session, node: Node, execution: int, outputs: Mapping[str, Artifact], error: BaseException) -> None:
    """End an execution that raised an error; what it made stays only where it can be resumed."""
    if not node.component.resumable:
        for artifact in outputs.values():
            shutil.rmtree(artifact.path, ignore_errors=True)
    with contextlib.suppress(sqlite3.Error), metadata.transaction(session.db):  # the next run finds it dead
        metadata.fail_execution(session.db, execution, {"error": describe_error(error)})
    if isinstance(error, KeyboardInterrupt):
        error.add_note(
            f"The same command goes on from what {node.name} last saved."
            if node.component.resumable
            else f"The same command goes on with {node.name}; what was done before it is kept."
        )


def describe_outputs(outputs: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Flush what a component made to the disk, and describe it.

    Returns:
        name → what the database keeps of the artifact (type, fingerprint, files, bytes, properties), and as "scratch"
        the patterns of what is to be removed from it; JSON-able.
    """
    for artifact in outputs.values():
        content.flush(artifact.path, _scratch(artifact))
    described = {}
    for name, artifact in outputs.items():
        files, bytes_ = content.size(artifact.path, [*artifact.editable, *_scratch(artifact)])
        described[name] = {
            "type": type(artifact).__name__,
            "fingerprint": fingerprint_artifact(artifact),
            "files": files,
            "bytes": bytes_,
            "properties": artifact.properties(),
            "scratch": list(artifact.scratch),
        }
    return described


def _scratch(artifact: Artifact) -> list[str]:
    """Return the names in an artifact that a resumable component goes on from."""
    return [path.name for pattern in artifact.scratch for path in artifact.path.glob(pattern)]


def fingerprint_artifact(artifact: Artifact) -> str:
    """Return the SHA-256 of an artifact's content that other work depends on."""
    return content.fingerprint(artifact.path, [*artifact.derived, *artifact.editable, *_scratch(artifact)])


def publish_outputs(
    session: Session, component: str, execution: int, returned: Mapping[str, Mapping[str, Any]]
) -> None:
    """Give what a component made its names and rows. It may be begun again at any point."""
    for name, row in returned.items():
        folder = partial_folder(session.root, component, name, execution)
        if folder.exists():
            for path in [path for pattern in row["scratch"] for path in folder.glob(pattern)]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            content.flush_one(folder)
            folder.rename(folder.with_suffix(""))
            content.flush_one(folder.parent)
    with metadata.transaction(session.db):
        ids = {
            name: metadata.add_artifact(
                session.db,
                row["type"],
                f"{component}/{name}/{execution}",
                row["fingerprint"],
                row["files"],
                row["bytes"],
                row["properties"],
            )
            for name, row in returned.items()
        }
        metadata.connect_outputs(session.db, execution, ids)
        metadata.set_execution(session.db, execution, {"returned": None})
        metadata.complete_execution(session.db, execution)


def _give_up_what_is_done_again(session: Session, node: Node, execution: int) -> None:
    """Remove what earlier versions of the program left of work that is done now, for nobody resumes it."""
    db = session.db
    with metadata.transaction(db):
        (done,) = metadata.find_executions(db, "id = ?", execution)
        left = metadata.find_executions(db, _SAME_WORK, node.name, done["properties"]["work"])
        for row in left:
            metadata.set_execution(db, row["id"], {"resumable": False})
    for row in left:
        remove_folders(session.root, row)


def describe_change(session: Session, artifact: metadata.Row, how: str) -> str:
    """Return the words for an artifact that is not as it was made."""
    return (
        f"{session.root / artifact['uri']} {how} since it was made: put back what was there, or delete the folder to "
        "have it made anew"
    )


def whole_folder(root: Path, component: str, output: str, execution: int) -> Path:
    """Return the folder of an output that is published."""
    return root / component / output / str(execution)


def partial_folder(root: Path, component: str, output: str, execution: int) -> Path:
    """Return the folder of an output that is being made."""
    return root / component / output / f"{execution}.partial"


def remove_folders(root: Path, row: metadata.Row) -> None:
    """Remove the folders of an execution that is given up, under both of their names.

    They are known by its row, since users' own folders may lie in the root too.
    """
    for name in row["properties"].get("outputs", ()):
        for place in (whole_folder, partial_folder):
            if (folder := place(root, row["type"], name, row["id"])).exists():
                shutil.rmtree(folder, ignore_errors=True)
