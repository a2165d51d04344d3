"""The probe: which backbone, and how much of it, is worth most on a data set, before anything is trained."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kcnn.data.datasets.opening import normalize_dataset_name, open_dataset
from kcnn.data.ingestion import exclusions
from kcnn.errors import UserError
from kcnn.models.factory import create_model
from kcnn.models.spec import model_spec
from kcnn.tables import aligned
from kcnn.weights import find_pretrained, load_weights
from pipelines.artifacts.probing import ProbeResults
from pipelines.components.example_gen import example_gen
from pipelines.components.prober import prober
from pipelines.engine.component import Node
from pipelines.graphs.job import Job, run_graph
from pipelines.graphs.model_choice import models_with_weights
from pipelines.graphs.preflight import check_apart, check_classes, check_writable, leave_out, weights_digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProbeJob(Job):
    """A call of the pipeline.

    Attributes:
        dataset: a name or a path, as `open_dataset` takes it.
        data_dir: the folder of a TensorFlow dataset, as `open_dataset` takes it.
        offline: attempt no connection.
        models: names of architectures; none for those whose weights can be had without a connection.
        image_size: height and width in pixels; None to choose by the images and the model.
    """

    dataset: str
    data_dir: str | None
    offline: bool
    models: Sequence[str] = ()
    image_size: int | None = None


def graph(job: ProbeJob, models: Sequence[tuple[str, str, str]], fingerprint: str) -> list[Node]:
    """Return the steps, as data flow."""
    examples = example_gen(
        dataset=job.dataset,
        data_dir=job.data_dir,
        offline=job.offline,
        fingerprint=fingerprint,
        labelled=True,
        exclude=job.exclude,
        exclude_digest=exclusions.digest_exclusions(job.exclude),
        beam=job.beam,
    ).outputs["examples"]
    results = prober(models=models, image_size=job.image_size, examples=examples).outputs["results"]
    return [port.node for port in (examples, results)]


def settle_models(job: ProbeJob) -> list[tuple[str, str, str]]:
    """Return name, weights and the digest of their file of each model to probe.

    Raises:
        UserError: there is no such model, its weights cannot be had or do not fit, or it does not take the image size.
    """
    names = [model_spec(name).name for name in job.models] or models_with_weights()
    settled = []
    for name in dict.fromkeys(names):
        found = find_pretrained(model_spec(name), offline=job.offline)
        if not found:
            known = ", ".join(models_with_weights())
            raise UserError(f"--models {name}: no pretrained weights to be had; there are those of {known}")
        weights = found[0]
        load_weights(create_model(name, 2, job.image_size), weights, offline=job.offline)
        settled.append((name, weights, weights_digest(weights, name)))
    return settled


def run(job: ProbeJob) -> ProbeResults | None:
    """Run the job.

    Returns:
        what was found; None where the part of the pipeline that was asked for does not probe.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
    """
    job = dataclasses.replace(job, dataset=normalize_dataset_name(job.dataset))
    check_writable("--pipeline_root", Path(job.pipeline_root))
    check_apart("--pipeline_root", Path(job.pipeline_root), job.dataset)
    dataset = open_dataset(job.dataset, data_dir=job.data_dir, offline=job.offline)
    check_classes(job.dataset, dataset)
    dataset = leave_out(dataset, job.exclude)
    models = settle_models(job)
    made = run_graph(job, graph(job, models, dataset.fingerprint), pipeline="probing", goal="Prober")
    return made["Prober"]["results"] if made is not None else None


def rank(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows from the most accurate; of equally accurate ones the faster comes first."""
    return sorted(rows, key=lambda row: (-row["accuracy"], row["latency_ms"]))


def describe_ranking(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return ranked rows as a table, and a line on the fastest that may be as good as the best."""
    titles = ("model", "stage", "accuracy", "95% interval", "ms", "MB", "size", "weights")
    cells = [
        (
            row["model"],
            row["stage"],
            f"{row['accuracy']:.1%}",
            f"{row['low']:.1%} to {row['high']:.1%}",
            f"{row['latency_ms']:.1f}",
            f"{row['megabytes']:.1f}",
            str(row["image_size"]),
            row["weights"],
        )
        for row in rows
    ]
    best = rows[0]
    rival = min((row for row in rows if row["high"] >= best["accuracy"]), key=lambda row: row["latency_ms"])
    line = f"Best: {_name(best)}, {best['accuracy']:.1%} in {best['latency_ms']:.1f} ms"
    if rival is not best:
        line += f"; the fastest that may be as good: {_name(rival)}, {rival['accuracy']:.1%}"
        line += f" in {rival['latency_ms']:.1f} ms"
    return [*aligned([titles, *cells], right=[2, 4, 5, 6]), line]


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['model']} to {row['stage']}"
