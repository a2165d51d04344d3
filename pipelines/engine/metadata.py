"""Metadata: what ran, on what, and what it made: `<pipeline_root>/metadata.sqlite`, in the tables of ML Metadata.

    artifact      a whole output: where it lies, the fingerprint of its content, its files and bytes, facts about it
    execution     a component at work: RUNNING, COMPLETE, FAILED, or CACHED where an earlier one stood for it
    event         which execution took (INPUT) or made (OUTPUT) which artifact, under which name
    context       a "pipeline", by its name, or a "run" of one, by its number
    association   which executions belong to which context
    attribution   which artifacts do

Properties are JSON objects, times are seconds since 1970 (UTC), paths are relative to the root, so that the root can be
moved. Rows are read as dicts with their properties decoded. No function commits: `transaction` does, and the caller
shows by it what happens together or not at all.

Source of the tables: https://github.com/google/ml-metadata, proto/metadata_store.proto.
"""

import contextlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kcnn.documents import LARGEST, parse_json
from kcnn.errors import UserError
from pipelines.engine.damage import FILE, explaining
from pipelines.engine.soundness import DamagedMetadataError, check_names, check_row, check_structure

Row = dict[str, Any]

SECONDS_TO_WAIT = 60.0  # for another pipeline's transaction
SECONDS_TO_ASK = 5.0  # the same of those who only ask

# Each script leads from the version that is its place in the list to the next.
MIGRATIONS = [
    """
    CREATE TABLE artifact (
        id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, uri TEXT NOT NULL UNIQUE, fingerprint TEXT NOT NULL,
        created REAL NOT NULL, properties TEXT NOT NULL);
    CREATE TABLE execution (
        id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, key TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('RUNNING', 'COMPLETE', 'CACHED', 'FAILED')),
        started REAL NOT NULL, finished REAL, properties TEXT NOT NULL);
    CREATE TABLE event (
        execution INTEGER NOT NULL REFERENCES execution, artifact INTEGER NOT NULL REFERENCES artifact,
        type TEXT NOT NULL CHECK (type IN ('INPUT', 'OUTPUT')), name TEXT NOT NULL,
        PRIMARY KEY (execution, type, name));
    CREATE TABLE context (
        id INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, name TEXT NOT NULL, created REAL NOT NULL,
        properties TEXT NOT NULL, UNIQUE (type, name));
    CREATE TABLE association (
        context INTEGER NOT NULL REFERENCES context, execution INTEGER NOT NULL REFERENCES execution,
        PRIMARY KEY (context, execution));
    CREATE TABLE attribution (
        context INTEGER NOT NULL REFERENCES context, artifact INTEGER NOT NULL REFERENCES artifact,
        PRIMARY KEY (context, artifact));
    CREATE INDEX execution_key ON execution (key);
    CREATE INDEX event_artifact ON event (artifact)
    """,
    "ALTER TABLE artifact ADD COLUMN files INTEGER; ALTER TABLE artifact ADD COLUMN bytes INTEGER",
]


@contextlib.contextmanager
def reading(root: Path) -> Iterator[sqlite3.Connection]:
    """Open the root's database to ask it.

    Raises:
        UserError: there is none, it is of a newer version, or it is damaged.
    """
    with explaining(root), contextlib.closing(connect(root)) as db:
        yield db


def connect(root: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open the root's database, and bring it to the present version.

    Args:
        root: the pipeline's root folder.
        create: make it where there is none.

    Raises:
        UserError: there is none, it is of a newer version, or it is no database with this program's tables.
    """
    path = root / FILE
    there = os.path.lexists(path)
    if not create and not there:
        raise UserError(f"--pipeline_root {root}: no {FILE} there: no pipeline has run in it")
    with explaining(root):
        _check_files(path)
        frozen = not create and not os.access(root, os.W_OK)  # where SQLite cannot make the files that it shares
        where = f"{path.absolute().as_uri()}?immutable=1" if frozen else str(path)
        wait = SECONDS_TO_WAIT if create else SECONDS_TO_ASK
        db = sqlite3.connect(where, timeout=wait, isolation_level=None, uri=frozen)
        try:
            _prepare(db, root, there, frozen, wait)
        except BaseException:
            db.close()
            raise
    return db


def _prepare(db: sqlite3.Connection, root: Path, there: bool, frozen: bool, wait: float) -> None:
    """Set a connection, check the database's structure, and bring it to the present version."""
    db.execute("PRAGMA trusted_schema = OFF")
    db.row_factory = _row
    db.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")  # a row is refused, not the whole answer
    db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST)
    if _version(db) > len(MIGRATIONS):
        raise UserError(
            f"--pipeline_root {root}: its {FILE} is of version {_version(db)}, from a newer program; this one "
            f"knows versions up to {len(MIGRATIONS)}"
        )
    if _version(db) < 0:
        raise DamagedMetadataError(f"version {_version(db)}")
    if not frozen:
        _write_ahead(db, wait)
    db.execute("PRAGMA foreign_keys = ON")
    if _version(db) < len(MIGRATIONS):
        if there and _version(db) == 0 and (taken := taken_number(root)):
            raise DamagedMetadataError(f"it is empty, and there are folders of executions up to {taken}")
        with transaction(db):
            _migrate(db)
    check_structure(db, MIGRATIONS)


def _check_files(path: Path) -> None:
    """Raise DamagedMetadataError where the database, or a file of SQLite's beside it, is no file: a pipe would wait."""
    for name in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))):
        if os.path.lexists(name) and not name.is_file():
            raise DamagedMetadataError(f"{name.name} is no file")


def _row(cursor: sqlite3.Cursor, values: tuple) -> Row:
    row = dict(zip((column[0] for column in cursor.description), values, strict=True))
    if "properties" not in row:
        return row
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # `check_row` refuses what is left as it is
        row["properties"] = parse_json(row["properties"])
    return row


def _json(properties: Mapping[str, Any]) -> str:
    """Encode as SQLite reads it: what is not a number becomes null."""
    return json.dumps(json.loads(json.dumps(properties), parse_constant=lambda name: None))


def _write_ahead(db: sqlite3.Connection, wait: float) -> None:
    """Set WAL mode. SQLite does not wait when two do so at once."""
    deadline = time.monotonic() + wait
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _version(db: sqlite3.Connection) -> int:
    return db.execute("PRAGMA user_version").fetchone()["user_version"]


def _migrate(db: sqlite3.Connection) -> None:
    version = _version(db)  # read again: another process may have been quicker
    for script in MIGRATIONS[version:]:
        for statement in script.split(";"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {max(version, len(MIGRATIONS))}")


def taken_number(root: Path) -> int:
    """Return the highest number of an execution's folder; 0 where there is none."""
    stems = (path.stem for path in root.glob("*/*/*"))
    return max((int(stem) for stem in stems if re.fullmatch("[0-9]{1,15}", stem)), default=0)


def skip_taken_numbers(db: sqlite3.Connection, root: Path) -> None:
    """Let the next execution have a number beyond those of all folders, of which an older record may know nothing."""
    last = db.execute("SELECT max(seq) AS seq FROM sqlite_sequence WHERE name = 'execution'").fetchone()["seq"]
    if last is None:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('execution', ?)", [taken_number(root)])
    elif (taken := taken_number(root)) > last:
        db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'execution'", [taken])


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit what is written within, all of it, or nothing."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        yield


def begin_run(db: sqlite3.Connection, pipeline: str, properties: Mapping[str, Any]) -> int:
    """Add a run of the pipeline; returns its number."""
    now = time.time()
    db.execute(
        "INSERT INTO context (type, name, created, properties) VALUES ('pipeline', ?, ?, '{}') ON CONFLICT DO NOTHING",
        [pipeline, now],
    )
    number = 1 + max((int(row["name"]) for row in find_runs(db)), default=0)
    row = _json({"pipeline": pipeline, "state": "RUNNING", "finished": None, "error": None, **properties})
    db.execute("INSERT INTO context (type, name, created, properties) VALUES ('run', ?, ?, ?)", [number, now, row])
    return number


def end_run(db: sqlite3.Connection, run: int, state: str, error: str | None = None) -> None:
    """Set how a run ended: COMPLETE, FAILED, INTERRUPTED, or REFUSED where it was over before any work."""
    (row,) = find_runs(db, run)
    finished = max(row["created"], time.time())  # clocks may be set back
    properties = {**row["properties"], "state": state, "finished": finished, "error": error}
    db.execute("UPDATE context SET properties = ? WHERE id = ?", [_json(properties), row["id"]])


def find_runs(db: sqlite3.Connection, *numbers: int) -> list[Row]:
    """Return the runs with these numbers that there are, or all of them; the oldest first."""
    chosen = f"AND name IN ({', '.join('?' * len(numbers))})" if numbers else ""
    query = f"SELECT * FROM context WHERE type = 'run' {chosen} ORDER BY id"
    return _sound_rows("context", db.execute(query, list(map(str, numbers))))


def begin_execution(
    db: sqlite3.Connection, component: str, key: str, properties: Mapping[str, Any], **fields: Any
) -> int:
    """Add an execution, RUNNING unless `fields` say otherwise; returns its id."""
    now = time.time()
    row = {"state": "RUNNING", "started": now, "finished": None, **fields}
    return (
        db.execute(
            "INSERT INTO execution (type, key, properties, state, started, finished) VALUES (?, ?, ?, ?, ?, ?)",
            [component, key, _json(properties), row["state"], row["started"], row["finished"]],
        ).lastrowid
        or 0
    )


def connect_inputs(db: sqlite3.Connection, run: int, execution: int, inputs: Mapping[str, Row]) -> None:
    """Record what the execution takes, and the contexts that it belongs to."""
    db.execute("DELETE FROM event WHERE execution = ? AND type = 'INPUT'", [execution])
    for name, artifact in inputs.items():
        db.execute("INSERT INTO event VALUES (?, ?, 'INPUT', ?)", [execution, artifact["id"], name])
    db.execute(
        "INSERT OR IGNORE INTO association SELECT id, ? FROM context WHERE (type, name) IN (VALUES ('run', ?), "
        "('pipeline', ?))",
        [execution, str(run), find_runs(db, run)[0]["properties"]["pipeline"]],
    )


def connect_outputs(db: sqlite3.Connection, execution: int, outputs: Mapping[str, int]) -> None:
    """Record what the execution made (name → artifact's id), which then belongs to its contexts."""
    for name, artifact in outputs.items():
        db.execute("INSERT INTO event VALUES (?, ?, 'OUTPUT', ?)", [execution, artifact, name])
        db.execute(
            "INSERT OR IGNORE INTO attribution SELECT context, ? FROM association WHERE execution = ?",
            [artifact, execution],
        )


def add_artifact(
    db: sqlite3.Connection, type_: str, uri: str, fingerprint: str, files: int, bytes_: int, properties: Row
) -> int:
    """Add an artifact, which is whole; returns its id."""
    return (
        db.execute(
            "INSERT INTO artifact (type, uri, fingerprint, files, bytes, created, properties) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            [type_, uri, fingerprint, files, bytes_, time.time(), _json(properties)],
        ).lastrowid
        or 0
    )


def set_execution(db: sqlite3.Connection, execution: int, properties: Mapping[str, Any], **columns: Any) -> None:
    """Replace some properties and columns of an execution."""
    (row,) = find_executions(db, "id = ?", execution)
    columns["properties"] = _json({**row["properties"], **properties})
    assignments = ", ".join(f"{name} = ?" for name in columns)
    db.execute(f"UPDATE execution SET {assignments} WHERE id = ?", [*columns.values(), execution])


def complete_execution(db: sqlite3.Connection, execution: int) -> None:
    """Set an execution COMPLETE, not before it began: clocks may be set back."""
    db.execute(
        "UPDATE execution SET state = 'COMPLETE', finished = max(started, ?) WHERE id = ?", [time.time(), execution]
    )


def fail_execution(db: sqlite3.Connection, execution: int, properties: Mapping[str, Any]) -> None:
    """Set an execution FAILED, not before it began, and replace some of its properties."""
    set_execution(db, execution, properties, state="FAILED")
    db.execute("UPDATE execution SET finished = max(started, ?) WHERE id = ?", [time.time(), execution])


def find_executions(db: sqlite3.Connection, condition: str, *values: Any) -> list[Row]:
    """Return the executions for which the SQL condition holds, the newest first."""
    return _sound_rows("execution", db.execute(f"SELECT * FROM execution WHERE {condition} ORDER BY id DESC", values))


def find_artifacts(db: sqlite3.Connection, execution: int, event: str) -> dict[str, Row]:
    """Return name → the artifacts that the execution took ("INPUT") or made ("OUTPUT")."""
    rows = db.execute(
        "SELECT event.name AS role, artifact.* FROM event JOIN artifact ON artifact.id = event.artifact "
        "WHERE event.execution = ? AND event.type = ? ORDER BY event.name",
        [execution, event],
    )
    found = {row.pop("role"): row for row in _sound_rows("artifact", rows)}
    check_names(f"event of execution {execution}", found)
    return found


def find_published(db: sqlite3.Connection, context: int) -> list[Row]:
    """Return the artifacts that belong to a context, the oldest first."""
    rows = db.execute(
        "SELECT artifact.* FROM artifact JOIN attribution ON artifact.id = attribution.artifact "
        "WHERE attribution.context = ? ORDER BY artifact.id",
        [context],
    )
    return _sound_rows("artifact", rows)


def sound_parts(table: str, rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
    """Return the rows that are sound, and a line for each other, for those who only ask."""
    found, damage = [], []
    for row in rows:
        try:
            check_row(table, row)
        except DamagedMetadataError as error:
            damage.append(f"{FILE}: damaged: {error}")
        else:
            found.append(row)
    return found, damage


def _sound_rows(table: str, rows: Iterable[Row]) -> list[Row]:
    """Return all rows; raise DamagedMetadataError for one that is not sound."""
    found = list(rows)
    for row in found:
        check_row(table, row)
    return found
