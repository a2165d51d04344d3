"""The search for a learning rate: which one suits a training, before it is trained."""

import dataclasses
from pathlib import Path

from kcnn.config import Config
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import exclusions
from kcnn.errors import UserError
from pipelines.artifacts.rates import FoundRate
from pipelines.components.example_gen import example_gen
from pipelines.components.rate_finder import rate_finder
from pipelines.engine.component import Node
from pipelines.graphs.job import Job, run_graph
from pipelines.graphs.preflight import (
    check_apart,
    check_classes,
    check_names,
    check_writable,
    leave_out,
    settle_dataset,
    settle_weights,
    weights_digest,
)

FEWEST_STEPS, MOST_STEPS = 20, 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class RateJob(Job):
    """A call of the pipeline.

    Attributes:
        config: how to train, and on what.
        steps: over which the rate rises.
    """

    config: Config
    steps: int


def graph(job: RateJob, weights: str | None, fingerprint: str) -> list[Node]:
    """Return the steps, as data flow."""
    config = job.config
    examples = example_gen(
        dataset=config.dataset,
        data_dir=config.data_dir,
        offline=config.offline,
        fingerprint=fingerprint,
        labelled=True,
        exclude=job.exclude,
        exclude_digest=exclusions.digest_exclusions(job.exclude),
        beam=job.beam,
    ).outputs["examples"]
    found = rate_finder(
        config=config.to_json(),
        weights=weights,
        weights_digest=weights_digest(weights, config.model),
        steps=job.steps,
        examples=examples,
    ).outputs["found"]
    return [port.node for port in (examples, found)]


def check_steps(steps: int) -> None:
    """Raise UserError for a rise of too few steps, or of too many."""
    if not FEWEST_STEPS <= steps <= MOST_STEPS:
        nearest = min(max(steps, FEWEST_STEPS), MOST_STEPS)
        raise UserError(f"--steps {steps}: expected {FEWEST_STEPS} to {MOST_STEPS}; the nearest is {nearest}")


def run(job: RateJob) -> FoundRate | None:
    """Run the job.

    Returns:
        what was found; None where the part of the pipeline that was asked for does not search.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
    """
    config = settle_dataset(job.config)
    check_steps(job.steps)
    check_writable("--pipeline_root", Path(job.pipeline_root))
    check_apart("--pipeline_root", Path(job.pipeline_root), config.dataset)
    dataset = open_dataset(config.dataset, data_dir=config.data_dir, offline=config.offline)
    check_classes(config.dataset, dataset)
    dataset = leave_out(dataset, job.exclude)
    check_names(config)
    config, weights = settle_weights(config)
    nodes = graph(dataclasses.replace(job, config=config), weights, dataset.fingerprint)
    made = run_graph(job, nodes, pipeline="rate_finding", goal="RateFinder", config=config.to_dict())
    return made["RateFinder"]["found"] if made is not None else None
