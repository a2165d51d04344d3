"""Runs the nodes of a graph in order, and keeps what they make where TFX keeps it.

    <pipeline_root>/<Component>/<output>/<execution>/

The execution's name is a digest of everything that decides the result: the component's parameters, the executions
that its inputs came from, and the code. Equal work is therefore found finished under its own name, and skipped. An
output is written as `<execution>.partial` and renamed when the component has returned: what has its name is whole.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kcnn.errors import UserError
from pipelines.artifacts import Artifact
from pipelines.component import Node


@functools.cache
def _code() -> str:
    """A digest of the sources, so that a changed program does not take an old one's results for its own."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted([*root.glob("kcnn/**/*.py"), *root.glob("pipelines/**/*.py")]):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()


def _execution(node: Node) -> str:
    decisive = {key: value for key, value in node.parameters.items() if key not in node.ignored}
    sources = {key: [port.node.name, port.name, _execution(port.node)] for key, port in node.inputs.items()}
    identity = json.dumps([node.name, decisive, sources, _code()], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _folder(root: Path, node: Node, output: str) -> Path:
    return root / node.name / output / _execution(node)


def run(nodes: Sequence[Node], root: Path, *, resume: bool = False) -> dict[str, dict[str, Any]]:
    """Runs the nodes, each after those it takes from.

    Args:
        nodes: in an order in which every node follows its inputs.
        root: the pipeline's root folder.
        resume: give resumable components the partial outputs that an interrupted execution left, not empty folders.

    Returns:
        node name → output name → artifact.

    Raises:
        ValueError: a node stands before one of its inputs.
        UserError: the root cannot be written.
    """
    made: dict[str, dict[str, Any]] = {}
    for node in nodes:
        inputs = {}
        for key, port in node.inputs.items():
            if port.node.name not in made:
                raise ValueError(f"{node.name} takes {key!r} from {port.node.name}, which has not run before it")
            inputs[key] = made[port.node.name][port.name]
        folders = {name: _folder(root, node, name) for name in node.output_types}
        if not (node.cached and all(folder.exists() for folder in folders.values())):
            _execute(node, inputs, folders, resume=resume and node.resumable)
        else:
            print(f"{node.name}: unchanged, already in {next(iter(folders.values()))}")
        made[node.name] = {name: type_(folders[name]) for name, type_ in node.output_types.items()}
    return made


def _execute(node: Node, inputs: dict[str, Artifact], folders: dict[str, Path], *, resume: bool) -> None:
    partial = {name: folder.with_name(folder.name + ".partial") for name, folder in folders.items()}
    try:
        for folder in partial.values():
            if folder.exists() and not resume:
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--pipeline_root {error.filename}: cannot be written: {error.strerror}") from None
    outputs = {name: type_(partial[name]) for name, type_ in node.output_types.items()}
    try:
        node.function(**node.parameters, **inputs, **outputs)
    except BaseException:
        if not node.resumable:
            for folder in partial.values():
                shutil.rmtree(folder, ignore_errors=True)
        raise
    for name, folder in folders.items():
        if folder.exists():  # an execution that is not cached makes its output anew
            shutil.rmtree(folder)
        partial[name].rename(folder)
