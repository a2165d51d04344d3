"""The soundness of the metadata: what each cell of a row must be, before anything is done by it.

A database may be damaged, or come from elsewhere. Its rows name folders that are removed and classes that are called:
a name is an identifier, and a path stays in the root.
"""

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kcnn.errors import UserError

LATEST = 253402300800.0  # the end of the year 9999, in seconds since 1970: no clock shows more
_LONGEST_PATH = 4096  # PATH_MAX of Linux
MOST = 10**15  # of what is numbered or counted
STATES = ("RUNNING", "COMPLETE", "CACHED", "FAILED")
RUN_STATES = ("RUNNING", "COMPLETE", "FAILED", "INTERRUPTED", "REFUSED")


class DamagedMetadataError(UserError):
    """The database, or a row of it, is not what this program writes."""


Check = tuple[Callable[[Any], bool], str]  # whether a value is sound, and what is expected


def is_number(value: Any) -> bool:
    """Return whether a value is a number and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_path(text: str) -> bool:
    """Return whether a file could have the name."""
    try:
        return b"\0" not in os.fsencode(text) and len(text) < _LONGEST_PATH
    except UnicodeEncodeError:
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isidentifier() and len(value) < 200


def _is_pattern(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"[\w*-][\w.*-]*", value))


def _is_uri(value: Any) -> bool:
    parts = value.split("/") if isinstance(value, str) else ()
    return len(parts) == 3 and all(map(_is_name, parts[:2])) and bool(re.fullmatch("[0-9]{1,15}", parts[2]))


def _is_described(value: Any) -> bool:
    """Return whether a value is what `pipelines.engine.execution.describe_outputs` returns."""
    return isinstance(value, dict) and all(
        _is_name(name)
        and isinstance(row, dict)
        and _is_name(row.get("type"))
        and isinstance(row.get("fingerprint"), str)
        and _is_count(row.get("files"))
        and _is_count(row.get("bytes"))
        and isinstance(row.get("properties"), dict)
        and isinstance(row.get("scratch"), list)
        and all(map(_is_pattern, row["scratch"]))
        for name, row in value.items()
    )


def _one_of(*values: str) -> Check:
    return (lambda value: value in values), f"one of {', '.join(values)}"


def _or_none(check: Check) -> Check:
    return (lambda value: value is None or check[0](value)), f"{check[1]}, or nothing"


_TEXT: Check = (lambda value: isinstance(value, str)), "text"
_NAME: Check = _is_name, "a name"
_COUNT: Check = _is_count, "a number, 0 or more"
_TIME: Check = (lambda value: is_number(value) and 0 <= value < LATEST), "a time"
_FLAG: Check = (lambda value: value in (0, 1)), "true or false"
_OBJECT: Check = (lambda value: isinstance(value, dict)), "a JSON object"
_URI: Check = _is_uri, "<component>/<output>/<number>"
_RUN: Check = (lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9]{1,15}", value))), "a number"
_NAMES: Check = (
    (lambda value: isinstance(value, dict) and all(map(_is_name, [*value, *value.values()]))),
    "the names of outputs, and of their classes",
)
_MODULES: Check = (
    (lambda value: isinstance(value, dict) and all(isinstance(name, str) for name in value.values())),
    "the modules of classes",
)

COLUMNS: dict[str, dict[str, Check]] = {
    "artifact": {
        "id": _COUNT,
        "type": _NAME,
        "uri": _URI,
        "fingerprint": _TEXT,
        "created": _TIME,
        "files": _or_none(_COUNT),
        "bytes": _or_none(_COUNT),
        "properties": _OBJECT,
    },
    "execution": {
        "id": _COUNT,
        "type": _NAME,
        "key": _TEXT,
        "state": _one_of(*STATES),
        "started": _TIME,
        "finished": _or_none(_TIME),
        "properties": _OBJECT,
    },
    "event": {"execution": _COUNT, "artifact": _COUNT, "type": _one_of("INPUT", "OUTPUT"), "name": _NAME},
    "context": {"id": _COUNT, "type": _TEXT, "name": _TEXT, "created": _TIME, "properties": _OBJECT},
    "association": {"context": _COUNT, "execution": _COUNT},
    "attribution": {"context": _COUNT, "artifact": _COUNT},
}
PROPERTIES: dict[str, dict[str, Check]] = {
    "execution": {
        "parameters": _OBJECT,
        "code": _TEXT,
        "outputs": _NAMES,
        "run": _COUNT,
        "modules": _MODULES,
        "resumable": _FLAG,
        "returned": _or_none((_is_described, "a description of the outputs")),
        "work": _TEXT,
        "error": _or_none(_TEXT),
    },
    "run": {
        "pipeline": _TEXT,
        "state": _one_of(*RUN_STATES),
        "finished": _or_none(_TIME),
        "error": _or_none(_TEXT),
        "command": _or_none(_TEXT),
        "commit": _or_none(_TEXT),
        "dataset": _or_none(_TEXT),
        "config": _OBJECT,
    },
}
_UNFINISHED_WITH_OUTPUTS = (
    "SELECT id FROM execution WHERE state NOT IN ('COMPLETE', 'CACHED') AND (id IN (SELECT execution FROM event WHERE "
    "type = 'OUTPUT') OR id IN (SELECT substr(uri, length(rtrim(uri, '0123456789')) + 1) FROM artifact)) LIMIT 1"
)
_MAY_BE_MISSING = {"modules", "resumable", "returned", "work", "command", "commit", "dataset", "config"}


def check_row(table: str, row: Mapping[str, Any]) -> None:
    """Raise DamagedMetadataError unless each cell of a row is sound. The properties are decoded."""
    columns = COLUMNS[table]
    kind = table
    if table == "context" and row["type"] == "run":
        kind, columns = "run", {**columns, "name": _RUN}
    place = " ".join(str(part)[:20] for part in (kind, row.get("id", "")) if part != "")
    _check(place, columns, row)
    if kind in PROPERTIES:
        _check(f"{place}: properties", PROPERTIES[kind], row["properties"])
    if table == "execution" and row["finished"] is None and row["state"] != "RUNNING":
        raise DamagedMetadataError(f"{place}: finished: expected a time, as the state is {row['state']}")
    if table == "execution" and row["state"] == "RUNNING" and "resumable" not in row["properties"]:
        raise DamagedMetadataError(f"{place}: properties: resumable: expected true or false, found nothing")


def _check(place: str, checks: Mapping[str, Check], values: Mapping[str, Any]) -> None:
    for name, (is_sound, expected) in checks.items():
        if name not in values:
            if name in _MAY_BE_MISSING:
                continue
            raise DamagedMetadataError(f"{place}: {name}: expected {expected}, found nothing")
        try:
            sound = is_sound(values[name])
        except TypeError:  # what cannot be compared, such as a list with a name
            sound = False
        if not sound:
            found = type(values[name]).__name__
            raise DamagedMetadataError(f"{place}: {name}: expected {expected}, found another {found}")


def check_names(place: str, names: Iterable[Any]) -> None:
    """Raise DamagedMetadataError unless all are names of inputs and outputs."""
    if not all(map(_is_name, names)):
        raise DamagedMetadataError(f"{place}: expected a name")


def check_structure(db: sqlite3.Connection, migrations: list[str]) -> None:
    """Raise DamagedMetadataError unless the database has the tables that the migrations make.

    A view in the place of a table, or a trigger, would be somebody's program.
    """
    with sqlite3.connect(":memory:") as new:
        for script in migrations:
            new.executescript(script)
        expected = {table: _columns(new, table) for table in COLUMNS}
    new.close()
    found = dict(_ask(db, "SELECT name, type FROM sqlite_master"))
    for table, columns in expected.items():
        if found.get(table) != "table":
            raise DamagedMetadataError(f"no table {table}")
        if missing := [column for column in columns if column not in _columns(db, table)]:
            raise DamagedMetadataError(f"table {table} has no column {missing[0]}")
    if "trigger" in found.values():
        raise DamagedMetadataError("it has a trigger")


def check_content(db: sqlite3.Connection) -> None:
    """Raise DamagedMetadataError unless the pages are whole, and each row is sound; sqlite3.Error for some damage."""
    for query in ("PRAGMA quick_check(1)", "PRAGMA foreign_key_check"):
        for found in _ask(db, query):
            if found != ["ok"]:
                words = " ".join(" ".join(map(str, found)).split())
                raise DamagedMetadataError(f"{query.removeprefix('PRAGMA ')}: {words[:200]}")
    for (number,) in _ask(db, _UNFINISHED_WITH_OUTPUTS):  # whose folders would be removed
        raise DamagedMetadataError(f"execution {number}: it made artifacts, and is not finished")
    for (number,) in _ask(db, "SELECT seq FROM sqlite_sequence"):
        if not _is_count(number):
            raise DamagedMetadataError("sqlite_sequence: expected a number")
    for table in COLUMNS:
        for row in db.execute(f"SELECT * FROM {table}"):
            check_row(table, row)


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    """Return the columns of a table that hold what was written; not those that are computed."""
    return [row[1] for row in _ask(db, f"PRAGMA table_xinfo({table})") if row[6] == 0]


def _ask(db: sqlite3.Connection, query: str) -> list[list[Any]]:
    """Return rows as lists, whatever the connection makes of rows."""
    cursor = db.cursor()
    cursor.row_factory = lambda _, values: list(values)
    return cursor.execute(query).fetchall()
