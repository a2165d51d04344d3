"""The second half of the main job and of `export`: from a trained network to a published version."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcnn.errors import RefusedError, UserError, nearest
from kcnn.plain_paths import is_pattern
from kcnn.serving.export.classifier import OPTIMIZE_FOR
from kcnn.serving.formats.catalogue import check_format_runtimes, choose_formats
from kcnn.serving.validation.tensorflow_serving import find_serving_image
from kcnn.terminal import print_lines
from pipelines.components.evaluator import evaluator
from pipelines.components.exporter import exporter
from pipelines.components.gate import gate
from pipelines.components.infra_validator import infra_validator
from pipelines.components.pusher import pusher
from pipelines.engine.component import Port
from pipelines.graphs.preflight import check_gates, check_writable, last_pushed
from pipelines.reports.summary import summarize_run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Publication:
    """What is published, where, and on what conditions.

    Attributes:
        name: the published model's.
        saved_models: the folder that publishes.
        optimize_for: what the export is made for, one of `OPTIMIZE_FOR` of `kcnn.serving.export.classifier`;
            None for the usual: what the network's last export was made for, or else latency.
        formats: what it is written as, of `kcnn.serving.formats.catalogue.FORMATS`.
        min_accuracy: what a model must reach on the test images to be published, from 0 to 1.
        min_slice_accuracy: what it must reach on every slice of them that is not too small, from 0 to 1.
        allow_worse: publish a model too that is worse than the last that was pushed.
        max_latency_ms: what a request of one image may take, in milliseconds; None for no limit.
        max_memory_mb: what serving may take, in MiB; None for no limit.
        keep_versions: how many versions to leave in the folder, 2 or more; None for all.
    """

    name: str
    saved_models: str
    optimize_for: str | None = None
    formats: tuple[str, ...] = ("savedmodel",)
    min_accuracy: float = 0.0
    min_slice_accuracy: float = 0.0
    allow_worse: bool = False
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None
    keep_versions: int | None = None


def check_publication(publication: Publication) -> None:
    """Raise UserError for what can be known to fail before any work."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", publication.name):
        raise UserError(f"--name {publication.name!r}: expected letters, digits, '.', '_' and '-'")
    if publication.optimize_for not in (None, *OPTIMIZE_FOR):
        raise UserError(
            f"--optimize_for {publication.optimize_for!r}: {nearest(publication.optimize_for, OPTIMIZE_FOR)}"
        )
    check_format_runtimes(choose_formats(publication.formats))
    folder = Path(publication.saved_models, publication.name)
    check_writable("--saved_models", folder)
    if is_pattern(folder.absolute()):
        print_lines(
            f"Note: {folder.absolute()} has [ or \\ in its path, from which TensorFlow without kcnn loads nothing"
        )
    check_gates(publication.keep_versions, publication.max_latency_ms, publication.max_memory_mb)


def publication_steps(
    publication: Publication, record: Mapping[str, Any], *, examples: Port, transform_graph: Port, model_run: Port
) -> dict[str, Port]:
    """Return the steps, as data flow; `record` is what only the run knows, for the card.

    Returns:
        "model", "evaluation", "model_blessing", "infra_blessing" and "pushed".
    """
    model = exporter(
        optimize_for=publication.optimize_for or "latency",
        formats=list(choose_formats(publication.formats)),
        examples=examples,
        transform_graph=transform_graph,
        model_run=model_run,
    ).outputs["model"]
    baseline, baseline_digest = last_pushed(Path(publication.saved_models, publication.name))
    evaluated = evaluator(
        baseline=baseline,
        baseline_digest=baseline_digest,
        examples=examples,
        model=model,
    ).outputs
    model_blessing = gate(
        baseline=baseline,
        min_accuracy=publication.min_accuracy,
        min_slice_accuracy=publication.min_slice_accuracy,
        evaluation=evaluated["evaluation"],
        baseline_answers=evaluated["baseline_answers"],
    ).outputs["blessing"]
    infra_blessing = infra_validator(
        serving_image=find_serving_image(),
        max_latency_ms=publication.max_latency_ms,
        max_memory_mb=publication.max_memory_mb,
        examples=examples,
        model=model,
        evaluation=evaluated["evaluation"],
    ).outputs["blessing"]
    pushed = pusher(
        name=publication.name,
        saved_models=publication.saved_models,
        keep_versions=publication.keep_versions,
        allow_worse=publication.allow_worse,
        record=dict(record),
        examples=examples,
        model_run=model_run,
        model=model,
        evaluation=evaluated["evaluation"],
        model_blessing=model_blessing,
        infra_blessing=infra_blessing,
    ).outputs["pushed"]
    return {
        "model": model,
        "evaluation": evaluated["evaluation"],
        "model_blessing": model_blessing,
        "infra_blessing": infra_blessing,
        "pushed": pushed,
    }


def conclude(made: Mapping[str, Mapping[str, Any]]) -> Path:
    """Print what a run made and where, and return the published version's folder.

    Raises:
        RefusedError: a gate refuses to publish it.
    """
    print_lines(*summarize_run(made))
    pushed = made["Pusher"]["pushed"]
    if pushed.refused():
        how = f". To go on: {'; '.join(pushed.notes())}" if pushed.notes() else ""
        raise RefusedError(f"not published: {'; '.join(pushed.refused())}{how}")
    return pushed.version()
