"""The runner: it runs the nodes of a graph in order, and keeps what they make where TFX keeps it.

    <pipeline_root>/<Component>/<output>/<execution>/   numbered by the database beside them, `metadata.sqlite`

An execution's key is a digest of everything that decides its result: the component, the code that it can reach, the
parameters, and the fingerprints of its inputs' contents. Equal work is found finished by it and skipped, also where
something upstream ran anew and made the same bytes. Folders of older versions of this program, named by digests, are
not looked at.

What has an artifact's row in the database is whole, whenever the process is killed or the power fails:

1. a run begins by ending what dead runs left (`pipelines.engine.recovery`);
2. a component works in folders without a name, and one transaction publishes them (`pipelines.engine.execution`).

What others do to a folder after that is noticed: by its size before it is taken, by its content when a component fails.
"""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kcnn import content
from kcnn.errors import UserError, nearest
from kcnn.tables import aligned
from kcnn.terminal import print_lines
from pipelines.engine import metadata
from pipelines.engine.code import digest_files, find_start, reach, reach_component
from pipelines.engine.component import Artifact, Node, order_nodes, upstream
from pipelines.engine.execution import (
    begin_or_resume,
    check_unchanged,
    describe_change,
    describe_execution,
    execute,
    open_inputs,
)
from pipelines.engine.recovery import end_what_dead_runs_left
from pipelines.engine.session import NotBegunError, Session, open_session


def run_nodes(
    nodes: Sequence[Node],
    root: Path,
    *,
    resume: bool = True,
    first: str | None = None,
    last: str | None = None,
    pipeline: str = "pipeline",
    record: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Artifact]]:
    """Run the nodes, each after those it takes from.

    Prints a line when one begins and when it is done, and a table of all in the end.

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
        ValueError: the graph is miswired; see `order_nodes`.
        UserError: the root cannot be written or holds a newer version's metadata; no such component; a component
            outside of what `first` and `last` leave is needed and not finished.
    """
    nodes = order_nodes(nodes)
    chosen = _choose(nodes, first, last)
    needed = set[Node]().union(*map(upstream, chosen))
    made: dict[str, dict[str, metadata.Row]] = {}
    for node in needed:
        reach(find_start(node.component))  # reads the code before anyone edits it
    with open_session(root, pipeline, record or {}) as session:
        end_what_dead_runs_left(session)
        # What is not chosen comes first, so that what is missing is known before any work.
        for node in sorted((node for node in nodes if node in needed), key=lambda node: node in chosen):
            inputs = {key: made[port.node.name][port.name] for key, port in node.inputs.items()}
            made[node.name] = _make(session, node, inputs, node in chosen, resume)
    print_lines("", *aligned([("component", "seconds", "outcome", "folder"), *session.steps], right=[1]))
    return {
        node.name: {
            name: kind(root / made[node.name][name]["uri"]) for name, kind in node.component.output_types.items()
        }
        for node in nodes
        if node in needed
    }


def _choose(nodes: list[Node], first: str | None, last: str | None) -> set[Node]:
    """Return the nodes from `first` to `last`."""
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


def _make(
    session: Session, node: Node, inputs: dict[str, metadata.Row], chosen: bool, resume: bool
) -> dict[str, metadata.Row]:
    """Return the rows of the node's outputs, found or made."""
    if node.execution is not None:
        if (outputs := _find_outputs(session, node, node.execution)) is None:
            raise NotBegunError(f"what {node.name} made is no longer all in {session.root / node.name}")
        return outputs
    taken = open_inputs(session, node, inputs)
    try:
        code = digest_files(reach_component(node.component, {**node.parameters, **taken}))
    except Exception as error:  # what an input says of itself decides which code it is
        check_unchanged(session, node, inputs, taken, error)
        raise
    key = _digest_work(node, inputs, code)
    if (node.component.cached or not chosen) and (outputs := _find_finished(session, node, key)) is not None:
        with metadata.transaction(session.db):
            now = time.time()
            execution = metadata.begin_execution(
                session.db,
                node.name,
                key,
                describe_execution(session, node, code),
                state="CACHED",
                started=now,
                finished=now,
            )
            metadata.connect_inputs(session.db, session.run, execution, inputs)
            metadata.connect_outputs(session.db, execution, {name: row["id"] for name, row in outputs.items()})
        where = ", ".join(str(session.root / row["uri"]) for row in outputs.values())
        print_lines(f"{node.name}: unchanged, already in {where}")
        session.steps.append((node.name, "", "unchanged", where))
        return outputs
    if not chosen:
        raise NotBegunError(
            f"{node.name} is needed and not finished with these settings and data: run it first, with --to {node.name}"
        )
    work = _digest_work(node, inputs, "")
    execution = begin_or_resume(session, node, inputs, key=key, code=code, work=work, resume=resume)
    start = time.monotonic()
    execute(session, node, execution, inputs)
    seconds = f"{time.monotonic() - start:.1f}"
    print_lines(f"{node.name}: done in {seconds} s")
    outputs = metadata.find_artifacts(session.db, execution, "OUTPUT")
    where = ", ".join(str(session.root / row["uri"]) for row in outputs.values())
    session.steps.append((node.name, seconds, "done", where))
    return outputs


def _digest_work(node: Node, inputs: Mapping[str, metadata.Row], code: str) -> str:
    """Return the digest of what decides a node's result."""
    decisive = {key: value for key, value in node.parameters.items() if key not in node.component.ignored}
    contents = {key: artifact["fingerprint"] for key, artifact in inputs.items()}
    identity = json.dumps([node.name, code, decisive, contents], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()


def _find_finished(session: Session, node: Node, key: str) -> dict[str, metadata.Row] | None:
    """Return what the last execution of the key made that is all there still; None where there is none."""
    finished = metadata.find_executions(session.db, "key = ? AND state = 'COMPLETE'", key)
    return next(filter(None, (_find_outputs(session, node, row["id"]) for row in finished)), None)


def _find_outputs(session: Session, node: Node, execution: int) -> dict[str, metadata.Row] | None:
    """Return what an execution made, if it is all there still; None otherwise.

    Raises:
        UserError: it is there, and not as it was made.
    """
    kinds = node.component.output_types
    made_then = metadata.find_artifacts(session.db, execution, "OUTPUT")
    outputs = {name: made_then[name] for name in kinds if name in made_then}
    folders = {name: session.root / artifact["uri"] for name, artifact in outputs.items()}
    if outputs.keys() != kinds.keys() or not all(folder.is_dir() for folder in folders.values()):
        return None
    for name, artifact in outputs.items():
        found = content.size(folders[name], kinds[name].editable)
        made = artifact["files"], artifact["bytes"]
        if made not in (found, (None, None)):  # which older versions did not keep
            changed = f"has {found[0]} files of {found[1]} bytes instead of {made[0]} of {made[1]}"
            raise UserError(describe_change(session, artifact, changed))
    return outputs
