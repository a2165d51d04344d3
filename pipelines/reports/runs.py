"""Questions to the metadata about runs: a list of them, and what differs between two."""

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kcnn.documents import parse_json
from kcnn.errors import UserError
from kcnn.json_files import warn_of_damage
from kcnn.tables import aligned
from pipelines.artifacts import find_class
from pipelines.engine import locks, metadata
from pipelines.engine.metadata import Row
from pipelines.engine.soundness import DamagedMetadataError, is_number, is_path


def format_time(seconds: float) -> str:
    """Return seconds since 1970 as an ISO 8601 time, UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested JSON, also where it is a string (a Config among the parameters), as dotted name → value."""
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(ValueError):  # then it is a text
            value = parse_json(value)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {name: value}
    prefix = f"{name}." if name else ""
    return {key: leaf for part in value for key, leaf in flatten(value[part], f"{prefix}{part}").items()}


def find_executions_of(db: sqlite3.Connection, run: int) -> list[Row]:
    """Return the executions of a run that ended well, in the order in which they began."""
    return metadata.find_executions(
        db,
        "id IN (SELECT execution FROM association JOIN context ON id = context WHERE type = 'run' AND name = ?) "
        "AND state IN ('COMPLETE', 'CACHED')",
        str(run),
    )[::-1]


def list_runs(root: Path) -> list[dict[str, Any]]:
    """List the runs, the oldest first.

    Returns:
        JSON-able: "run", the number; "pipeline", "created" (UTC), "seconds", "state", "error", "command", "commit",
        "dataset", "top1" (0 to 1, of the test split), "published", the version's folder; None for what there is not.

    Prints a warning for each run that is damaged.

    Raises:
        UserError: there are no metadata, or none that can be read.
    """
    with metadata.reading(root) as db:
        rows = db.execute("SELECT * FROM context WHERE type = 'run' ORDER BY id").fetchall()
        sound, damage = metadata.sound_parts("context", rows)
        found = []
        for row in sound:
            try:
                found.append(describe_run(db, root, row))
            except DamagedMetadataError as error:
                damage.append(f"run {row['name']}: {metadata.FILE}: damaged: {error}")
        warn_of_damage(damage)
        return found


def describe_run(db: sqlite3.Connection, root: Path, row: Row) -> dict[str, Any]:
    """Describe a run by its row, as `list_runs`."""
    number, facts = int(row["name"]), row["properties"]
    made = metadata.find_published(db, row["id"])
    top1 = [_top1(artifact) for artifact in made if artifact["type"] == "ModelEvaluation"]
    published = [published_version(artifact) for artifact in made if artifact["type"] == "PushedModel"]
    dead = facts["state"] == "RUNNING" and not locks.is_alive(root, number)
    return {
        "run": number,
        "pipeline": facts["pipeline"],
        "created": format_time(row["created"]),
        "seconds": round(facts["finished"] - row["created"], 1) if facts["finished"] else None,
        "state": "INTERRUPTED" if dead else facts["state"],
        "error": facts["error"],
        "command": facts.get("command"),
        "commit": facts.get("commit"),
        "dataset": facts.get("dataset", facts.get("config", {}).get("dataset")),
        "top1": top1[-1] if top1 else None,
        "published": published[-1] if published else None,
    }


def _top1(artifact: Row) -> float | None:
    """Return the accuracy that an evaluation found."""
    figure = artifact["properties"].get("top1")
    value = figure.get("value") if isinstance(figure, dict) else None
    if value is not None and not is_number(value):
        raise DamagedMetadataError(f"artifact {artifact['id']}: top1: expected a number")
    return value


def published_version(artifact: Row, name: str = "version") -> str | None:
    """Return the folder that a Pusher published, or a path of another name; None where there is none."""
    path = artifact["properties"].get(name)
    if path is not None and (not isinstance(path, str) or not is_path(path)):
        raise DamagedMetadataError(f"artifact {artifact['id']}: {name}: expected a path")
    return path


def format_runs(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what `list_runs` found as a table, a line for each run."""
    cells = [
        (
            str(row["run"]),
            row["created"],
            "" if row["seconds"] is None else f"{row['seconds']:.1f} s",
            row["state"],
            row["dataset"] or "",
            "" if row["top1"] is None else f"{row['top1']:.1%}",
            "/".join(Path(row["published"] or "").parts[-2:]),
            row["command"] or "",
        )
        for row in rows
    ]
    return aligned([("run", "when (UTC)", "time", "state", "data set", "top-1", "published", "command"), *cells])


def compare_runs(root: Path, numbers: tuple[int, int]) -> dict[str, dict[str, list[Any]]]:
    """Compare two runs.

    Returns:
        head ("configuration", "data", "code", "metrics", "artifacts") → dotted name → [in the first, in the second],
        None for what a run does not have.

    Raises:
        UserError: there is no such run, or no metadata.
    """
    with metadata.reading(root) as db:
        sides = [_contents(db, number) for number in numbers]
    return {
        head: {
            name: [side[head].get(name) for side in sides]
            for name in sorted(sides[0][head].keys() | sides[1][head].keys())
            if sides[0][head].get(name) != sides[1][head].get(name)
        }
        for head in sides[0]
    }


def _contents(db: sqlite3.Connection, number: int) -> dict[str, dict[str, Any]]:
    """Return head → dotted name → value of one run."""
    found = metadata.find_runs(db, number)
    if not found:
        numbers = [row["name"] for row in metadata.find_runs(db)]
        raise UserError(f"runs {number}: no such run; there are {', '.join(numbers) or 'none'}")
    content: dict[str, dict[str, Any]] = {
        head: {} for head in ("configuration", "data", "code", "metrics", "artifacts")
    }
    content["code"]["commit"] = found[0]["properties"].get("commit")
    for row in find_executions_of(db, number):
        content["code"][row["type"]] = row["properties"]["code"]
        for name, value in flatten(row["properties"]["parameters"], row["type"]).items():
            if value != {}:  # of a component without parameters
                content["data" if name.endswith("fingerprint") else "configuration"][name] = value
        for name, artifact in metadata.find_artifacts(db, row["id"], "OUTPUT").items():
            facts = {"fingerprint": artifact["fingerprint"], **artifact["properties"]}
            facts.pop("from_here", None)
            content[find_class(artifact["type"]).head].update(flatten(facts, f"{row['type']}.{name}"))
    return content


def format_comparison(differences: dict[str, dict[str, list[Any]]], numbers: tuple[int, int]) -> list[str]:
    """Return the lines of what `compare_runs` found."""

    def short(value: Any) -> str:
        text = "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 60 else f"{text[:57]}..."

    rows = []
    for head, differing in differences.items():
        rows.append((head, *(f"run {number}" for number in numbers)) if differing else (head, "the same", ""))
        rows += [(f"  {name}", *map(short, sides)) for name, sides in differing.items()]
    return aligned(rows)
