"""Jobs: how a pipeline is called, and what all pipelines do with a call."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.engine import runner
from pipelines.engine.code import describe_commit
from pipelines.engine.component import Node


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """A call of a pipeline.

    Attributes:
        pipeline_root: the folder of what is made.
        command: how it was called, for the records.
        exclude: lists of images to leave out (`kcnn.data.ingestion.exclusions`).
        beam: Apache Beam's options (`kcnn.data.drivers.beam_options`), to run the data components there; None to run
            them here.
        resume: go on where a training of the same settings, data and program was interrupted; without, begin anew.
        first: run only this component and what takes from it; None for all.
        last: run only this component and what it takes from; None for all.
    """

    pipeline_root: str
    command: str
    exclude: Sequence[str] = ()
    beam: list[str] | None = None
    resume: bool = True
    first: str | None = None
    last: str | None = None


def run_graph(
    job: Job, nodes: Sequence[Node], *, pipeline: str, goal: str, **record: Any
) -> dict[str, dict[str, Any]] | None:
    """Run the part of a graph that a job asks for.

    Args:
        job: how the pipeline was called.
        nodes: the graph.
        pipeline: its name, for the metadata.
        goal: the component that it is there for.
        record: what the metadata keep of the run beside command and commit, JSON-able.

    Returns:
        as `runner.run`; None where the part that was asked for ends before the goal.
    """
    made = runner.run_nodes(
        nodes,
        Path(job.pipeline_root),
        resume=job.resume,
        first=job.first,
        last=job.last,
        pipeline=pipeline,
        record={"command": job.command, "commit": describe_commit(), **record},
    )
    return made if goal in made else None
