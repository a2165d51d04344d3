"""Questions to the metadata: where an artifact comes from, as text, JSON and a drawing; and how runs compare."""

import contextlib
import datetime
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kcnn.errors import UserError
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.card import read_card
from kcnn.tables import aligned, printable
from pipelines.engine import metadata
from pipelines.engine.metadata import Row

LISTED = 5  # exclusions that a text names
# What of a run is compared under which head, by the artifact's class; the rest is "artifacts".
HEADS = {
    "Examples": "data",
    "ExampleStatistics": "data",
    "Schema": "data",
    "ExampleAnomalies": "data",
    "Findings": "data",
    "LabelErrors": "data",
    "TransformGraph": "data",
    "HyperParameters": "configuration",
    "ModelEvaluation": "metrics",
    "ModelBlessing": "metrics",
    "InfraBlessing": "metrics",
    "ModelRun": "metrics",
    "Model": "metrics",
    "Backbone": "metrics",
}


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Nested JSON, also where it is a string (a Config among the parameters), as dotted name → value."""
    if isinstance(value, str) and value.startswith("{"):
        with contextlib.suppress(json.JSONDecodeError):  # then it is a text
            value = json.loads(value)
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if not isinstance(value, dict) or not value:
        return {name: value}
    prefix = f"{name}." if name else ""
    return {key: leaf for part in value for key, leaf in flatten(value[part], f"{prefix}{part}").items()}


def _find(db: sqlite3.Connection, root: Path, path: Path) -> Row:
    """The artifact at or around the path, or that which published it: the last where there are several."""
    rows = db.execute("SELECT * FROM artifact ORDER BY id DESC").fetchall()
    sought, home = path.resolve(), root.resolve()
    published = []
    for row in rows:
        facts, folder = row["properties"], home / row["uri"]
        places = [Path(facts["version"]), folder / facts["from_here"]] if facts.get("version") else []
        places = [place.resolve() for place in places]
        published += places[:1]
        if any(sought in (place, place.parent) for place in places) or sought.is_relative_to(folder):
            return row
    known = f"known are {', '.join(map(str, published))}" if published else "nothing was published from it"
    raise UserError(f"{path}: not made in --pipeline_root {root}: {known}")


def _rollback(path: Path) -> Row | None:
    """What the card of a published version, or of the last in a folder, says of the rollback that made it."""
    version = (versions.list_versions(path) or [path])[-1]
    found = (read_card(version) or {}).get("rollback")
    return found and {"version": str(version), **found}


def lineage(root: Path, path: Path) -> dict[str, Any]:
    """Everything that made an artifact, and what the same runs found out about the data (statistics, anomalies).

    Args:
        root: the pipeline's root folder.
        path: a published version (or its parent folder, for the last one), or an artifact's folder or what is in it.

    Returns:
        JSON-able: "path"; "artifact", the id; "executions", each with "id", "component", "started" (UTC), "seconds",
        "runs", "code", "parameters", and "inputs" and "outputs" (name → artifact's id); "artifacts", each with "id",
        "type", "uri", "fingerprint", "files", "bytes", "created" (UTC) and "properties"; "runs", each as in `runs`. A
        file of weights that was made in this root counts as an input "weights". "rollback": of a version that a
        rollback made, which then is told of the version that it is a copy of, what its card says; None otherwise.

    Raises:
        UserError: there is no such artifact, or no metadata.
    """
    db = metadata.connect(root)
    try:
        rollback = _rollback(path)
        first = Path(rollback["version"]).with_name(str(rollback["copy_of"])) if rollback else path
        target = _find(db, root, first)
        artifacts: dict[int, Row] = {}
        executions: dict[int, Row] = {}
        _ancestors(db, target, artifacts, executions)
        for run in sorted({number for row in executions.values() for number in row["runs"]}):
            _describers(db, run, target, artifacts, executions)
        return {
            "path": str(path),
            "rollback": rollback,
            "artifact": target["id"],
            "executions": list(executions.values()),
            "artifacts": [{**row, "created": _time(row["created"])} for row in artifacts.values()],
            "runs": [
                _run(db, root, row) for row in metadata.runs(db, *{n for e in executions.values() for n in e["runs"]})
            ],
        }
    finally:
        db.close()


def _executions_of(db: sqlite3.Connection, run: int) -> list[Row]:
    """In the order in which they began."""
    return metadata.executions(
        db,
        "id IN (SELECT execution FROM association JOIN context ON id = context WHERE type = 'run' AND name = ?) "
        "AND state IN ('COMPLETE', 'CACHED')",
        str(run),
    )[::-1]


def _describers(
    db: sqlite3.Connection, run: int, target: Row, artifacts: dict[int, Row], executions: dict[int, Row]
) -> None:
    """Adds what the run found out about the data, though it did not go into the artifact."""
    for row in _executions_of(db, run):
        inputs = {artifact["id"] for artifact in metadata.artifacts(db, row["id"], "INPUT").values()}
        outputs = metadata.artifacts(db, row["id"], "OUTPUT").values()
        if inputs and inputs <= artifacts.keys() - {target["id"]}:
            for artifact in outputs:
                if HEADS.get(artifact["type"]) == "data":
                    _ancestors(db, artifact, artifacts, executions)


def _ancestors(db: sqlite3.Connection, artifact: Row, artifacts: dict[int, Row], executions: dict[int, Row]) -> None:
    """Adds the artifact and what it comes from."""
    if artifact["id"] in artifacts:
        return
    artifacts[artifact["id"]] = artifact
    (row,) = metadata.executions(
        db,
        "state = 'COMPLETE' AND id IN (SELECT execution FROM event WHERE artifact = ? AND type = 'OUTPUT')",
        artifact["id"],
    )
    inputs, made = (metadata.artifacts(db, row["id"], kind) for kind in ("INPUT", "OUTPUT"))
    for sibling in made.values():
        artifacts[sibling["id"]] = sibling
    facts = row["properties"]
    if digest := facts["parameters"].get("weights_digest"):
        parents = (  # earlier by their numbers, since clocks may be set back
            "SELECT artifact.* FROM artifact JOIN event ON artifact.id = event.artifact WHERE event.type = 'OUTPUT' "
            "AND json_extract(properties, '$.sha256') = ? AND event.execution < ? ORDER BY artifact.id"
        )
        for parent in db.execute(parents, [digest, row["id"]]):
            inputs["weights"] = parent
    runs = db.execute(
        "SELECT name FROM context JOIN association ON id = context WHERE type = 'run' AND execution = ?", [row["id"]]
    )
    executions[row["id"]] = {
        "id": row["id"],
        "component": row["type"],
        "started": _time(row["started"]),
        "seconds": round(row["finished"] - row["started"], 1),
        "runs": [int(run["name"]) for run in runs],
        "code": facts["code"],
        "parameters": facts["parameters"],
        "inputs": {name: taken["id"] for name, taken in sorted(inputs.items(), key=lambda item: item[1]["id"])},
        "outputs": {name: artifact["id"] for name, artifact in made.items()},
    }
    for taken in inputs.values():
        _ancestors(db, taken, artifacts, executions)


def tree(found: dict[str, Any]) -> str:
    """A lineage as indented text, from the artifact back to its data."""
    artifacts = {row["id"]: row for row in found["artifacts"]}
    makers = {artifact: row for row in found["executions"] for artifact in row["outputs"].values()}
    lines: list[str] = []
    seen: set[int] = set()
    told: set[int] = set()  # executions, which may have several outputs
    codes: set[str] = set()

    def show(role: str, artifact: int, indent: str) -> None:
        row, maker = artifacts[artifact], makers[artifact]
        title = f"{indent}{role}: {row['type']} in {row['uri']}"
        if artifact in seen:
            lines.append(f"{title} (above)")
            return
        seen.add(artifact)
        lines.append(title)
        lines.append(f"{indent}  fingerprint: {row['fingerprint'][:16]}")
        lines.extend(f"{indent}  {line}" for line in _facts(row["properties"]))
        runs = ", ".join(map(str, maker["runs"]))
        if maker["id"] in told:
            lines.append(f"{indent}  made by {maker['component']} in run {runs} (above)")
            return
        told.add(maker["id"])
        lines.append(f"{indent}  made by {maker['component']} in run {runs}, {maker['started']}, {maker['seconds']} s")
        if maker["code"] not in codes:  # most often it is one for all
            codes.add(maker["code"])
            lines.append(f"{indent}    code: {maker['code'][:16]}")
        lines.extend(f"{indent}    {line}" for line in _facts(maker["parameters"]))
        for name, taken in maker["inputs"].items():
            show(name, taken, f"{indent}    ")

    if rollback := found["rollback"]:
        lines.append(f"{rollback['version']}: a copy of version {rollback['copy_of']}")
        replaced = f"in the place of version {rollback['replaces']}"
        lines.append(f"  published {replaced} by a rollback, {rollback['created']}: {rollback['command']}")
    show(found["path"], found["artifact"], "")
    for row in found["executions"]:
        for name, artifact in row["outputs"].items():
            if artifact not in seen:
                show(f"beside it, {name}", artifact, "")
    for run in found["runs"]:
        lines.append(f"run {run['run']}: {run['created']}, commit {run['commit'] or 'unknown'}: {run['command']}")
    return printable("\n".join(lines))


def _facts(facts: Row) -> list[str]:
    """A line for each, the empty ones left out, of the exclusions a few."""
    excluded = list(facts.get("excluded", {}).items())
    lines = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in flatten(
            {key: value for key, value in facts.items() if key not in ("excluded", "from_here")}
        ).items()
        if value not in (None, "", [], {})
    ]
    if "excluded" in facts:
        lines.append(f"excluded: {len(excluded)}")
        lines += [f"  {file}: {reason}" for file, reason in excluded[:LISTED]]
        lines += [f"  and {len(excluded) - LISTED} more, see --json"] * (len(excluded) > LISTED)
    return lines


def runs(root: Path) -> list[dict[str, Any]]:
    """The runs, the oldest first, JSON-able: "run", the number; "pipeline", "created" (UTC), "seconds", "state",
    "error", "command", "commit", "dataset", "top1" (0 to 1, of the test split), "published", the version's folder;
    None for what there is not.

    Raises:
        UserError: there are no metadata.
    """
    db = metadata.connect(root)
    try:
        return [_run(db, root, row) for row in metadata.runs(db)]
    finally:
        db.close()


def _run(db: sqlite3.Connection, root: Path, row: Row) -> dict[str, Any]:
    number, facts = int(row["name"]), row["properties"]
    made = db.execute(
        "SELECT artifact.* FROM artifact JOIN attribution ON artifact.id = attribution.artifact "
        "WHERE attribution.context = ? ORDER BY artifact.id",
        [row["id"]],
    ).fetchall()
    top1 = [artifact["properties"]["top1"]["value"] for artifact in made if artifact["type"] == "ModelEvaluation"]
    published = [artifact["properties"].get("version") for artifact in made if artifact["type"] == "PushedModel"]
    dead = facts["state"] == "RUNNING" and not metadata.alive(root, number)
    return {
        "run": number,
        "pipeline": facts["pipeline"],
        "created": _time(row["created"]),
        "seconds": round(facts["finished"] - row["created"], 1) if facts["finished"] else None,
        "state": "INTERRUPTED" if dead else facts["state"],
        "error": facts["error"],
        "command": facts.get("command"),
        "commit": facts.get("commit"),
        "dataset": facts.get("dataset", facts.get("config", {}).get("dataset")),
        "top1": top1[-1] if top1 else None,
        "published": published[-1] if published else None,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Runs as text, a line each."""
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


def compare(root: Path, numbers: tuple[int, int]) -> dict[str, dict[str, list[Any]]]:
    """What differs between two runs.

    Returns:
        head ("configuration", "data", "code", "metrics", "artifacts") → dotted name → [in the first, in the second],
        None for what a run does not have.

    Raises:
        UserError: there is no such run, or no metadata.
    """
    db = metadata.connect(root)
    try:
        sides = [_content(db, number) for number in numbers]
    finally:
        db.close()
    return {
        head: {
            name: [side[head].get(name) for side in sides]
            for name in sorted(sides[0][head].keys() | sides[1][head].keys())
            if sides[0][head].get(name) != sides[1][head].get(name)
        }
        for head in sides[0]
    }


def _content(db: sqlite3.Connection, number: int) -> dict[str, dict[str, Any]]:
    """head → dotted name → value, of one run."""
    found = metadata.runs(db, number)
    if not found:
        numbers = [row["name"] for row in metadata.runs(db)]
        raise UserError(f"runs {number}: no such run; there are {', '.join(numbers) or 'none'}")
    content: dict[str, dict[str, Any]] = {
        head: {} for head in ("configuration", "data", "code", "metrics", "artifacts")
    }
    content["code"]["commit"] = found[0]["properties"].get("commit")
    for row in _executions_of(db, number):
        content["code"]["sources"] = row["properties"]["code"]  # one for all: finished work of other code is not reused
        for name, value in flatten(row["properties"]["parameters"], row["type"]).items():
            if value != {}:  # of a component without parameters
                content["data" if name.endswith("fingerprint") else "configuration"][name] = value
        for name, artifact in metadata.artifacts(db, row["id"], "OUTPUT").items():
            facts = {"fingerprint": artifact["fingerprint"], **artifact["properties"]}
            facts.pop("from_here", None)
            content[HEADS.get(artifact["type"], "artifacts")].update(flatten(facts, f"{row['type']}.{name}"))
    return content


def comparison(differences: dict[str, dict[str, list[Any]]], numbers: tuple[int, int]) -> str:
    """Differences as text."""

    def short(value: Any) -> str:
        text = "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 60 else f"{text[:57]}..."

    rows = []
    for head, differing in differences.items():
        rows.append((head, *(f"run {number}" for number in numbers)) if differing else (head, "the same", ""))
        rows += [(f"  {name}", *map(short, sides)) for name, sides in differing.items()]
    return aligned(rows)
