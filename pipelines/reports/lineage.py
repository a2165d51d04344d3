"""Questions to the metadata about an artifact: where it comes from, as JSON and as text."""

import dataclasses
import graphlib
import json
import sqlite3
from pathlib import Path
from typing import Any

from kcnn.errors import UserError
from kcnn.json_files import warn_of_damage
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.card import Rollback, read_card
from kcnn.serving.publishing.rollback import original_number
from pipelines.artifacts import find_class
from pipelines.engine import metadata
from pipelines.engine.metadata import Row
from pipelines.engine.soundness import DamagedMetadataError
from pipelines.reports.runs import describe_run, find_executions_of, flatten, format_time, published_version

LISTED = 5  # exclusions that a text names
LONGEST = 250  # executions, one after the other


def _find(db: sqlite3.Connection, root: Path, path: Path) -> Row:
    """Return the artifact at or around the path, or the one that published it: the last where there are several."""
    rows, damage = metadata.sound_parts("artifact", db.execute("SELECT * FROM artifact ORDER BY id DESC"))
    warn_of_damage(damage)
    sought, home = path.resolve(), root.resolve()
    published = []
    for row in rows:
        folder, version, from_here = home / row["uri"], published_version(row), published_version(row, "from_here")
        places = [Path(version).resolve()] if version else []
        places += [(folder / from_here).resolve()] if version and from_here else []
        published += places[:1]
        if any(sought in (place, place.parent) for place in places) or sought.is_relative_to(folder):
            return row
    known = f"known are {', '.join(map(str, published))}" if published else "nothing was published from it"
    raise UserError(f"{path}: not made in --pipeline_root {root}: {known}")


def _rollback(path: Path) -> Row | None:
    """Return what the card of a published version, or of the last in a folder, says of the rollback that made it."""
    version = (versions.list_versions(path) or [path])[-1]
    card = read_card(version)
    warn_of_damage(card.damage)
    number = versions.version_number(version.name)
    copied = number and original_number(version, card)
    if not copied or (card.rollback is None and copied == number):
        return None
    return {"version": str(version), **dataclasses.asdict(card.rollback or Rollback(copied))}


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
    with metadata.reading(root) as db:
        rollback = _rollback(path)
        first = path
        if rollback:
            first = Path(rollback["version"]).with_name(str(rollback["copy_of"]))
        target = _find(db, root, first)
        artifacts: dict[int, Row] = {}
        executions: dict[int, Row] = {}
        _ancestors(db, target, artifacts, executions)
        for run in sorted({number for row in executions.values() for number in row["runs"]}):
            _describers(db, run, target, artifacts, executions)
        _check_order(executions)
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
    waiting = [artifact]
    while waiting:
        artifact = waiting.pop()
        if artifact["id"] in artifacts:
            continue
        artifacts[artifact["id"]] = artifact
        row = _maker(db, artifact)
        inputs, made = (metadata.find_artifacts(db, row["id"], kind) for kind in ("INPUT", "OUTPUT"))
        for sibling in made.values():
            artifacts[sibling["id"]] = sibling
        facts = row["properties"]
        if isinstance(digest := facts["parameters"].get("weights_digest"), str) and digest:
            parents = (  # earlier by their numbers, since clocks may be set back
                "SELECT artifact.* FROM artifact JOIN event ON artifact.id = event.artifact WHERE event.type = "
                "'OUTPUT' AND json_valid(properties) AND json_extract(properties, '$.sha256') = ? AND "
                "event.execution < ? ORDER BY artifact.id"
            )
            for parent in metadata.sound_parts("artifact", db.execute(parents, [digest, row["id"]]))[0]:
                inputs["weights"] = parent
        executions[row["id"]] = {
            "id": row["id"],
            "component": row["type"],
            "started": format_time(row["started"]),
            "seconds": round(row["finished"] - row["started"], 1),
            "runs": _runs_of(db, row["id"]),
            "code": facts["code"],
            "parameters": facts["parameters"],
            "inputs": {name: taken["id"] for name, taken in sorted(inputs.items(), key=lambda item: item[1]["id"])},
            "outputs": {name: artifact["id"] for name, artifact in made.items()},
        }
        waiting += reversed(inputs.values())


def _maker(db: sqlite3.Connection, artifact: Row) -> Row:
    """Return the execution that made an artifact."""
    makers = metadata.find_executions(
        db,
        "state = 'COMPLETE' AND id IN (SELECT execution FROM event WHERE artifact = ? AND type = 'OUTPUT')",
        artifact["id"],
    )
    if len(makers) != 1:
        raise DamagedMetadataError(f"artifact {artifact['id']}: made by {len(makers)} executions; expected one")
    return makers[0]


def _runs_of(db: sqlite3.Connection, execution: int) -> list[int]:
    """Return the numbers of the runs that an execution belongs to."""
    contexts = db.execute(
        "SELECT context.* FROM context JOIN association ON id = context WHERE type = 'run' AND execution = ?",
        [execution],
    )
    return [int(row["name"]) for row in metadata.sound_parts("context", contexts)[0]]


def _check_order(executions: dict[int, Row]) -> None:
    """Raise DamagedMetadataError where what executions take is made of what they make, or the chain has no end."""
    makers = {artifact: row["id"] for row in executions.values() for artifact in row["outputs"].values()}
    taken = {row["id"]: [makers[artifact] for artifact in row["inputs"].values()] for row in executions.values()}
    steps: dict[int, int] = {}
    try:
        for number in graphlib.TopologicalSorter(taken).static_order():
            steps[number] = 1 + max((steps[other] for other in taken[number]), default=0)
    except graphlib.CycleError:
        raise DamagedMetadataError("an artifact comes from itself") from None
    if max(steps.values()) > LONGEST:
        raise UserError(f"its lineage is longer than {LONGEST} executions, one after the other")


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
        replaced = f"in the place of version {rollback['replaces'] or 'unknown'}"
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
    excluded = list(facts["excluded"].items()) if isinstance(facts.get("excluded"), dict) else []
    lines = [
        f"{name}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in flatten(
            {key: value for key, value in facts.items() if key not in ("excluded", "from_here")}
        ).items()
        if value not in (None, "", [], {})
    ]
    if isinstance(facts.get("excluded"), dict):
        lines.append(f"excluded: {len(excluded)}")
        lines += [f"  {file}: {reason}" for file, reason in excluded[:LISTED]]
        lines += [f"  and {len(excluded) - LISTED} more, see --json"] * (len(excluded) > LISTED)
    return lines
