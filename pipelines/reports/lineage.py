"""Questions to the metadata about an artifact: where it comes from, as JSON and as text."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from kcnn.errors import UserError
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.card import read_card
from kcnn.serving.publishing.rollback import original_number
from pipelines.artifacts import find_class
from pipelines.engine import metadata
from pipelines.engine.metadata import Row
from pipelines.reports.runs import describe_run, find_executions_of, flatten, format_time

LISTED = 5  # exclusions that a text names


def _find(db: sqlite3.Connection, root: Path, path: Path) -> Row:
    """Return the artifact at or around the path, or the one that published it: the last where there are several."""
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
    """Return what the card of a published version, or of the last in a folder, says of the rollback that made it."""
    version = (versions.list_versions(path) or [path])[-1]
    found = (read_card(version) or {}).get("rollback")
    return found and {"version": str(version), **found}


def find_lineage(root: Path, path: Path) -> dict[str, Any]:
    """Find everything that made an artifact, and what the same runs found out about the data (statistics, anomalies).

    Args:
        root: the pipeline's root folder.
        path: a published version (or its parent folder, for the last one), or an artifact's folder or what is in it.

    Returns:
        JSON-able: "path"; "artifact", the id; "executions", each with "id", "component", "started" (UTC), "seconds",
        "runs", "code", "parameters", and "inputs" and "outputs" (name → artifact's id); "artifacts", each with "id",
        "type", "uri", "fingerprint", "files", "bytes", "created" (UTC) and "properties"; "runs", each as in
        `list_runs`. A
        file of weights that was made in this root counts as an input "weights". "rollback": of a version that a
        rollback made, which then is told of the version that it is a copy of, what its card says; None otherwise.

    Raises:
        UserError: there is no such artifact, or no metadata.
    """
    db = metadata.connect(root)
    try:
        rollback = _rollback(path)
        first = path
        if rollback:
            copy = Path(rollback["version"])
            first = copy.with_name(str(original_number(copy)))
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
            "artifacts": [{**row, "created": format_time(row["created"])} for row in artifacts.values()],
            "runs": [
                describe_run(db, root, row)
                for row in metadata.find_runs(db, *{n for e in executions.values() for n in e["runs"]})
            ],
        }
    finally:
        db.close()


def _describers(
    db: sqlite3.Connection, run: int, target: Row, artifacts: dict[int, Row], executions: dict[int, Row]
) -> None:
    """Add what the run found out about the data, though it did not go into the artifact."""
    for row in find_executions_of(db, run):
        inputs = {artifact["id"] for artifact in metadata.find_artifacts(db, row["id"], "INPUT").values()}
        outputs = metadata.find_artifacts(db, row["id"], "OUTPUT").values()
        if inputs and inputs <= artifacts.keys() - {target["id"]}:
            for artifact in outputs:
                if find_class(artifact["type"]).head == "data":
                    _ancestors(db, artifact, artifacts, executions)


def _ancestors(db: sqlite3.Connection, artifact: Row, artifacts: dict[int, Row], executions: dict[int, Row]) -> None:
    """Add the artifact and what it comes from."""
    if artifact["id"] in artifacts:
        return
    artifacts[artifact["id"]] = artifact
    (row,) = metadata.find_executions(
        db,
        "state = 'COMPLETE' AND id IN (SELECT execution FROM event WHERE artifact = ? AND type = 'OUTPUT')",
        artifact["id"],
    )
    inputs, made = (metadata.find_artifacts(db, row["id"], kind) for kind in ("INPUT", "OUTPUT"))
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
        "started": format_time(row["started"]),
        "seconds": round(row["finished"] - row["started"], 1),
        "runs": [int(run["name"]) for run in runs],
        "code": facts["code"],
        "parameters": facts["parameters"],
        "inputs": {name: taken["id"] for name, taken in sorted(inputs.items(), key=lambda item: item[1]["id"])},
        "outputs": {name: artifact["id"] for name, artifact in made.items()},
    }
    for taken in inputs.values():
        _ancestors(db, taken, artifacts, executions)


def format_lineage(found: dict[str, Any]) -> list[str]:
    """Return the lines of a lineage as indented text, from the artifact back to its data."""
    artifacts = {row["id"]: row for row in found["artifacts"]}
    makers = {artifact: row for row in found["executions"] for artifact in row["outputs"].values()}
    lines: list[str] = []
    seen: set[int] = set()
    makers_shown: set[int] = set()  # executions, which may have several outputs

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
        if maker["id"] in makers_shown:
            lines.append(f"{indent}  made by {maker['component']} in run {runs} (above)")
            return
        makers_shown.add(maker["id"])
        lines.append(f"{indent}  made by {maker['component']} in run {runs}, {maker['started']}, {maker['seconds']} s")
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
    return lines


def _facts(facts: Row) -> list[str]:
    """Return a line for each fact that is not empty, and for a few of the exclusions."""
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
