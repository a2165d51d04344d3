"""The export job: another export of a network that was trained before, published as the next version."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from kcnn.errors import UserError
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.training import ModelRun
from pipelines.artifacts.transform import TransformGraph
from pipelines.engine.component import Artifact, Port, finished_node
from pipelines.graphs.job import Job, run_graph
from pipelines.graphs.preflight import check_apart
from pipelines.graphs.publication import Publication, check_publication, conclude, publication_steps
from pipelines.reports.lineage import find_lineage

_TAKEN: dict[str, type[Artifact]] = {"examples": Examples, "transform_graph": TransformGraph, "model_run": ModelRun}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportJob(Job):
    """A call of the pipeline.

    Attributes:
        version: a published version, or the folder of several for the last.
        publication: what becomes of it.
    """

    version: Path
    publication: Publication


def run(job: ExportJob) -> Path:
    """Export, evaluate, check and publish anew what a version was made of, with its data and its weights.

    Returns:
        the published version's folder.

    Raises:
        UserError: what the version was made of is not in the pipeline's root, or what can be known to fail otherwise.
        RefusedError: a gate refuses to publish it.
    """
    try:
        exporter, pusher, ports = _origin(Path(job.pipeline_root), job.version)
        purpose, origin = exporter["optimize_for"], dict(pusher["record"])
        dataset = os.fspath(origin["dataset"])
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"export {job.version}: what the metadata keep of it is not complete: {error!r}") from error
    publication = dataclasses.replace(job.publication, optimize_for=job.publication.optimize_for or purpose)
    check_publication(publication)
    check_apart("--saved_models", Path(publication.saved_models), dataset)
    record = {**origin, "command": job.command, "exported_from": str(job.version)}
    nodes = [port.node for port in (ports | publication_steps(publication, record, **ports)).values()]
    made = run_graph(job, nodes, pipeline="export", goal="Pusher", exported_from=str(job.version))
    assert made is not None
    return conclude(made)


def _origin(root: Path, version: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Port]]:
    """Return the parameters of the version's Exporter and Pusher, and what they took."""
    found = find_lineage(root, version)
    made_by = {artifact: row for row in found["executions"] for artifact in row["outputs"].values()}
    pusher = made_by[found["artifact"]]
    exporter = made_by.get(pusher["inputs"].get("model"), pusher)
    if (pusher["component"], exporter["component"]) != ("Pusher", "Exporter"):
        raise UserError(f"export {version}: made by an earlier version of this program, of which nothing can be taken")
    ports = {}
    for name, kind in _TAKEN.items():
        maker = made_by[exporter["inputs"][name]]
        (output,) = (key for key, artifact in maker["outputs"].items() if artifact == exporter["inputs"][name])
        ports[name] = finished_node(maker["component"], maker["id"], {output: kind}).outputs[output]
    return exporter["parameters"], pusher["parameters"], ports
