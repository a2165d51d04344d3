"""Runs the nodes of a graph in order, and keeps what they make where TFX keeps it.

    <pipeline_root>/<Component>/<output>/<execution>/   numbered by the database beside them, `metadata.sqlite`

An execution's key is a digest of everything that decides its result: the component, the code, the parameters, and the
fingerprints of its inputs' contents. Equal work is found finished by it and skipped, also where something upstream ran
anew and made the same bytes. Folders of older versions of this program, named by digests, are not looked at.

What has an artifact's row in the database is whole, whenever the process is killed or the power fails:

1. an execution is RUNNING in the database before its outputs' folders, `<execution>.partial`, are made;
2. when the component has returned, they are flushed to the disk, described, and renamed; then one transaction
   publishes all;
3. a run begins by ending what dead runs left: with a folder that is renamed, or where the model that was to be
   published is, the rest of 2 is done, otherwise the execution is FAILED and its folders are removed, but for those of
   resumable components, where the next run goes on.

What others do to a folder after that is noticed: by its size before it is taken, by its content when a component fails.
"""

import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kcnn import content
from kcnn.errors import UserError, nearest
from kcnn.tables import aligned
from pipelines.engine import metadata
from pipelines.engine.component import Artifact, Node, order, upstream

_RESUMABLE = "json_extract(properties, '$.resumable')"
_SAME_WORK = f"type = ? AND state = 'FAILED' AND {_RESUMABLE} AND json_extract(properties, '$.work') = ?"
_NO_SPACE = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_NO_ENTRY = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
_NUMPY_NO_SPACE = " requested and "  # "1000 requested and 12 written", which is all that numpy says


class _Refused(UserError):
    """Before any work."""


@dataclasses.dataclass(frozen=True)
class _Session:
    """A run under way."""

    db: sqlite3.Connection
    root: Path
    run: int
    steps: list[tuple[str, str, str, str]] = dataclasses.field(default_factory=list)  # as `run` prints them


@functools.cache
def _code() -> str:
    """A digest of the sources, so that a changed program does not take an old one's results for its own."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted([*root.glob("kcnn/**/*.py"), *root.glob("pipelines/**/*.py")]):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def commit() -> str | None:
    """Of the program's own checkout, "-dirty" where it was changed; None where it is none."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def run(
    nodes: Sequence[Node],
    root: Path,
    *,
    resume: bool = True,
    first: str | None = None,
    last: str | None = None,
    pipeline: str = "pipeline",
    record: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """Runs the nodes, each after those it takes from; prints a line when one begins and when it is done, and a table of
    all in the end.

    Args:
        nodes: the graph.
        root: the pipeline's root folder. Several runs may share it at once.
        resume: resumable components go on in the folders that the last unfinished execution of their key left; without,
            they begin anew.
        first: run only this component and what takes from it, near or far; what they need must be finished.
        last: run only this component and what it takes from.
        pipeline: the graph's name, for the metadata.
        record: what else the metadata keep of the run, JSON-able (command, config, commit).

    Returns:
        node name → output name → artifact, of the nodes that ran and of those they needed.

    Raises:
        ValueError: the graph is miswired; see `order`.
        UserError: the root cannot be written or holds a newer version's metadata; no such component; a component
            outside of what `first` and `last` leave is needed and not finished.
    """
    nodes = order(nodes)
    chosen = _between(nodes, first, last)
    needed = set[Node]().union(*map(upstream, chosen))
    made: dict[str, dict[str, Any]] = {}
    with _session(root, pipeline, record or {}) as session:
        _end_what_dead_runs_left(session)
        # What is not chosen comes first, so that what is missing is known before any work.
        for node in sorted((node for node in nodes if node in needed), key=lambda node: node in chosen):
            inputs = {key: made[port.node.name][port.name] for key, port in node.inputs.items()}
            made[node.name] = _make(session, node, inputs, node in chosen, resume)
    print("\n" + aligned([("component", "seconds", "outcome", "folder"), *session.steps], right=[1]), flush=True)
    return {
        node.name: {name: kind(root / made[node.name][name]["uri"]) for name, kind in node.output_types.items()}
        for node in nodes
        if node in needed
    }


def _between(nodes: list[Node], first: str | None, last: str | None) -> set[Node]:
    by_name = {node.name: node for node in nodes}
    for flag, name in (("--from", first), ("--to", last)):
        if name is not None and name not in by_name:
            raise UserError(f"{'--only' if first == last else flag} {name!r}: {nearest(name, by_name)}")
    ends = by_name.get(last or ""), by_name.get(first or "")
    chosen = {
        node
        for node in nodes
        if (ends[0] is None or node in upstream(ends[0])) and (ends[1] is None or ends[1] in upstream(node))
    }
    if not chosen:
        raise UserError(f"--from {first} --to {last}: {last} takes nothing from {first}")
    return chosen


@contextlib.contextmanager
def _session(root: Path, pipeline: str, record: Mapping[str, Any]) -> Iterator[_Session]:
    with contextlib.ExitStack() as stack:
        try:
            root.mkdir(parents=True, exist_ok=True)
            db = stack.enter_context(contextlib.closing(metadata.connect(root, create=True)))
            with metadata.transaction(db):
                number = metadata.begin_run(db, pipeline, {**record, **_process()})
                stack.enter_context(metadata.held(root, number))
        except (OSError, sqlite3.Error) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"--pipeline_root {root}: cannot be written: {reason}{metadata.room(root)}") from None
        try:
            yield _Session(db, root, number)
            with metadata.transaction(db):
                metadata.end_run(db, number, "COMPLETE")
        except BaseException as error:
            states = {KeyboardInterrupt: "INTERRUPTED", _Refused: "REFUSED"}
            state = states.get(type(error), "FAILED")
            with contextlib.suppress(sqlite3.Error), metadata.transaction(db):  # unsaid, it counts as interrupted
                metadata.end_run(db, number, state, _line(error))
            if isinstance(error, sqlite3.Error):
                raise UserError(f"--pipeline_root {root}: {metadata.FILE}: {error}{metadata.room(root)}") from error
            if isinstance(error, OSError) and (obstacle := _obstacle(error, root)) is not None:
                raise UserError(f"--pipeline_root {root}: cannot write in {obstacle}") from error
            raise


def _process() -> dict[str, Any]:
    return {"pid": os.getpid(), "host": platform.node()}


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def _obstacle(error: BaseException | None, folder: Path) -> str | None:
    """Where the disk let nothing be written and why, if it is that which the error tells of."""
    while error is not None:
        reason = next((reason for reason in _NO_SPACE if reason in str(error)), None)
        place = getattr(error, "filename", None)
        if isinstance(error, OSError) and error.errno in _NO_ENTRY:
            reason = error.strerror
        elif isinstance(error, OSError) and error.errno is None and _NUMPY_NO_SPACE in str(error):
            reason = _NO_SPACE[0]
        if isinstance(error, shutil.Error):
            place = error.args[0][0][1]  # of what could not be copied: source, target, reason
        if reason is not None:
            return f"{Path(place).parent if isinstance(place, str) else folder}: {reason}"
        error = error.__cause__ or error.__context__
    return None


def _key(node: Node, inputs: Mapping[str, metadata.Row], code: str) -> str:
    decisive = {key: value for key, value in node.parameters.items() if key not in node.ignored}
    contents = {key: artifact["fingerprint"] for key, artifact in inputs.items()}
    identity = json.dumps([node.name, code, decisive, contents], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def _make(
    session: _Session, node: Node, inputs: dict[str, metadata.Row], chosen: bool, resume: bool
) -> dict[str, metadata.Row]:
    """The node's outputs' rows, found or made."""
    if node.execution is not None:
        if (outputs := _outputs(session, node, node.execution)) is None:
            raise _Refused(f"what {node.name} made is no longer all in {session.root / node.name}")
        return outputs
    key = _key(node, inputs, _code())
    if (node.cached or not chosen) and (outputs := _finished(session, node, key)) is not None:
        with metadata.transaction(session.db):
            now = time.time()
            execution = metadata.begin(
                session.db, node.name, key, _facts(session, node), state="CACHED", started=now, finished=now
            )
            metadata.connect_inputs(session.db, session.run, execution, inputs)
            metadata.connect_outputs(session.db, execution, {name: row["id"] for name, row in outputs.items()})
        where = ", ".join(str(session.root / row["uri"]) for row in outputs.values())
        print(f"{node.name}: unchanged, already in {where}", flush=True)
        session.steps.append((node.name, "", "unchanged", where))
        return outputs
    if not chosen:
        raise _Refused(
            f"{node.name} is needed and not finished with these settings and data: run it first, with --to {node.name}"
        )
    execution = _begin(session, node, key, inputs, resume and node.resumable)
    start = time.monotonic()
    _execute(session, node, execution, inputs)
    seconds = f"{time.monotonic() - start:.1f}"
    print(f"{node.name}: done in {seconds} s", flush=True)
    outputs = metadata.artifacts(session.db, execution, "OUTPUT")
    where = ", ".join(str(session.root / row["uri"]) for row in outputs.values())
    session.steps.append((node.name, seconds, "done", where))
    return outputs


def _finished(session: _Session, node: Node, key: str) -> dict[str, metadata.Row] | None:
    """What the last execution of the key made that is all there still."""
    finished = metadata.executions(session.db, "key = ? AND state = 'COMPLETE'", key)
    return next(filter(None, (_outputs(session, node, row["id"]) for row in finished)), None)


def _outputs(session: _Session, node: Node, execution: int) -> dict[str, metadata.Row] | None:
    """What an execution made, if it is all there still.

    Raises:
        UserError: it is there, and not as it was made.
    """
    made_then = metadata.artifacts(session.db, execution, "OUTPUT")
    outputs = {name: made_then[name] for name in node.output_types if name in made_then}
    folders = {name: session.root / artifact["uri"] for name, artifact in outputs.items()}
    if outputs.keys() != node.output_types.keys() or not all(folder.is_dir() for folder in folders.values()):
        return None
    for name, artifact in outputs.items():
        found = content.size(folders[name], node.output_types[name].editable)
        made = artifact["files"], artifact["bytes"]
        if made not in (found, (None, None)):  # which older versions did not keep
            changed = f"has {found[0]} files of {found[1]} bytes instead of {made[0]} of {made[1]}"
            raise UserError(_changed(session, artifact, changed))
    return outputs


def _changed(session: _Session, artifact: metadata.Row, how: str) -> str:
    return (
        f"{session.root / artifact['uri']} {how} since it was made: put back what was there, or delete the folder to "
        "have it made anew"
    )


def _facts(session: _Session, node: Node, work: str = "") -> dict[str, Any]:
    """`work` is the key but for the program's code."""
    return {
        "parameters": node.parameters,
        "code": _code(),
        "outputs": {name: kind.__name__ for name, kind in node.output_types.items()},
        "work": work,
        "run": session.run,
        "error": None,
        **_process(),
    }


def _begin(session: _Session, node: Node, key: str, inputs: dict[str, metadata.Row], resume: bool) -> int:
    """A new execution with empty folders, or with `resume` the last unfinished one with its folders."""
    db, work = session.db, _key(node, inputs, "")
    with metadata.transaction(db):
        left = metadata.executions(db, f"key = ? AND state = 'FAILED' AND {_RESUMABLE}", key)
        other = metadata.executions(db, _SAME_WORK, node.name, work) if not left else []
        resumed = resume and bool(left)
        if resumed:
            resumable = left.pop(0)
            execution, before = resumable["id"], resumable["properties"]["run"]
            metadata.set_execution(db, execution, _facts(session, node, work), state="RUNNING", started=time.time())
        else:
            execution = metadata.begin(db, node.name, key, {**_facts(session, node, work), "resumable": node.resumable})
        metadata.connect_inputs(db, session.run, execution, inputs)
        for row in left:  # given up, in the database before the folders: nobody resumes from half of them
            metadata.set_execution(db, row["id"], {"resumable": False})
    for row in left:
        _remove(session.root, row)
    if resumed:
        print(f"{node.name}: goes on where run {before} ended", flush=True)
    elif other:
        print(f"{node.name}: another version of the program began this; it begins anew", flush=True)
    return execution


def _execute(session: _Session, node: Node, execution: int, inputs: dict[str, metadata.Row]) -> None:
    outputs = {
        name: kind(_partial(session.root, node.name, name, execution)) for name, kind in node.output_types.items()
    }
    print(f"{node.name}: at work in {', '.join(str(artifact.path) for artifact in outputs.values())}", flush=True)
    taken = {key: port.type(session.root / inputs[key]["uri"]) for key, port in node.inputs.items()}
    try:
        for artifact in outputs.values():
            artifact.path.mkdir(parents=True, exist_ok=True)
        node.function(**node.parameters, **taken, **outputs)
        rows = _described(outputs)
    except BaseException as error:
        if not node.resumable:
            for artifact in outputs.values():
                shutil.rmtree(artifact.path, ignore_errors=True)
        with contextlib.suppress(sqlite3.Error), metadata.transaction(session.db):  # the next run finds it dead
            metadata.fail(session.db, execution, {"error": _line(error)})
        if isinstance(error, KeyboardInterrupt):
            error.add_note(
                f"The same command goes on from what {node.name} last saved."
                if node.resumable
                else f"The same command goes on with {node.name}; what was done before it is kept."
            )
        if isinstance(error, UserError) or not isinstance(error, Exception):
            raise
        if (obstacle := _obstacle(error, next(iter(outputs.values())).path)) is not None:
            advice = "; once it can, the same command goes on from what was saved" if node.resumable else ""
            raise UserError(f"{node.name}: cannot write in {obstacle}{advice}") from error
        for key, row in inputs.items():
            if _fingerprint(taken[key]) != row["fingerprint"]:
                raise UserError(f"{node.name}: {_changed(session, row, 'has changed')}") from error
        raise
    _publish(session, node.name, execution, rows)
    _give_up_what_is_done_again(session, node, execution)


def _folder(root: Path, component: str, output: str, execution: int) -> Path:
    return root / component / output / str(execution)


def _partial(root: Path, component: str, output: str, execution: int) -> Path:
    return root / component / output / f"{execution}.partial"


def _remove(root: Path, row: metadata.Row) -> None:
    """The folders of an execution that is given up, under both of their names; by its row, since users' own folders
    may lie in the root too.
    """
    for name in row["properties"].get("outputs", ()):
        for place in (_folder, _partial):
            if (folder := place(root, row["type"], name, row["id"])).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _described(outputs: Mapping[str, Artifact]) -> dict[str, tuple[str, str, int, int, dict[str, Any]]]:
    """name → what the database keeps of each: type, fingerprint, files, bytes, facts. They are on the disk then."""
    for artifact in outputs.values():
        content.flush(artifact.path)
    return {
        name: (
            type(artifact).__name__,
            _fingerprint(artifact),
            *content.size(artifact.path, artifact.editable),
            artifact.properties(),
        )
        for name, artifact in outputs.items()
    }


def _fingerprint(artifact: Artifact) -> str:
    return content.fingerprint(artifact.path, [*artifact.derived, *artifact.editable])


def _publish(session: _Session, component: str, execution: int, rows: Mapping[str, tuple]) -> None:
    """Gives the outputs of a component that has returned their names and rows; may be begun again at any point."""
    for name in rows:
        if (folder := _partial(session.root, component, name, execution)).exists():
            folder.rename(folder.with_suffix(""))
            content.flush_one(folder.parent)
    with metadata.transaction(session.db):
        ids = {
            name: metadata.add_artifact(session.db, kind, f"{component}/{name}/{execution}", *row)
            for name, (kind, *row) in rows.items()
        }
        metadata.connect_outputs(session.db, execution, ids)
        metadata.complete(session.db, execution)


def _give_up_what_is_done_again(session: _Session, node: Node, execution: int) -> None:
    """Removes what earlier versions of the program left of work that `execution` has now done: nobody resumes it."""
    db = session.db
    with metadata.transaction(db):
        (done,) = metadata.executions(db, "id = ?", execution)
        left = metadata.executions(db, _SAME_WORK, node.name, done["properties"]["work"])
        for row in left:
            metadata.set_execution(db, row["id"], {"resumable": False})
    for row in left:
        _remove(session.root, row)


def _recovered(root: Path, row: metadata.Row, kinds: Mapping[str, type[Artifact]]) -> bool:
    """Whether all that a killed component was to make is whole though it did not return."""
    outputs = row["properties"]["outputs"].items()
    folders = [(kinds[kind], _partial(root, row["type"], name, row["id"])) for name, kind in outputs if kind in kinds]
    return len(folders) == len(outputs) > 0 and all(kind(folder).recovered() for kind, folder in folders)


def _end_what_dead_runs_left(session: _Session) -> None:
    """Step 3 of the module's docstring."""
    db, root = session.db, session.root
    kinds = {kind.__name__: kind for kind in Artifact.__subclasses__()}
    returned = []
    with metadata.transaction(db):
        metadata.remove_dead_locks(root)
        for row in metadata.executions(db, "state = 'RUNNING'"):
            if metadata.alive(root, row["properties"]["run"]):
                continue
            ends = [(row["type"], name, row["id"]) for name in row["properties"]["outputs"]]
            named = [_folder(root, *end).exists() for end in ends]
            there = all(_folder(root, *end).exists() or _partial(root, *end).exists() for end in ends)
            if (any(named) and there and row["properties"]["code"] == _code()) or _recovered(root, row, kinds):
                returned.append(row)
                metadata.set_execution(db, row["id"], {"run": session.run})  # which keeps it from other runs
            else:
                resumable = row["properties"]["resumable"] and not any(named)
                facts = {"error": "killed", "resumable": resumable}
                metadata.fail(db, row["id"], facts)
    for row in returned:
        outputs = {}
        for name, kind in row["properties"]["outputs"].items():
            folders = [place(root, row["type"], name, row["id"]) for place in (_folder, _partial)]
            outputs[name] = kinds[kind](next(folder for folder in folders if folder.exists()))
        _publish(session, row["type"], row["id"], _described(outputs))
    for row in metadata.executions(db, f"state = 'FAILED' AND NOT {_RESUMABLE}"):
        _remove(root, row)
