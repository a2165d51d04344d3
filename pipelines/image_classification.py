"""The main job: from a data set to a published classifier. Read `graph` from top to bottom."""

import dataclasses
import re
from pathlib import Path

from kcnn.config import Config
from kcnn.data.datasets import open_dataset
from kcnn.errors import RefusedError, UserError, nearest
from kcnn.models.factory import model_spec
from kcnn.serving.export import OPTIMIZE_FOR
from kcnn.serving.tensorflow_serving import find_image
from pipelines import job as jobs
from pipelines.component import Node
from pipelines.components.evaluator import evaluator
from pipelines.components.infra_validator import infra_validator
from pipelines.components.label_audit import label_audit
from pipelines.components.pusher import pusher
from pipelines.components.trainer import trainer
from pipelines.components.transform import transform
from pipelines.components.tuner import tuner
from pipelines.preflight import (
    check_gates,
    check_names,
    check_tune,
    check_writable,
    last_pushed,
    leave_out,
    settle_weights,
    weights_digest,
)
from pipelines.summary import report
from pipelines.validation import validated_examples


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(jobs.Job):
    """A run of the pipeline.

    Attributes:
        config: how to train, and on what.
        name: the published model's name; None for the model's own.
        saved_models: the folder that publishes.
        tune: how many settings to try before training, 2 or more; 0 for none.
        schema: a schema.pbtxt in the place of the inferred one; None to infer it.
        min_accuracy: what a model must reach on the test images to be published, from 0 to 1.
        min_slice_accuracy: what it must reach on every slice of them that is not too small, from 0 to 1.
        allow_worse: publish a model too that is worse than the last that was pushed.
        max_latency_ms: what a request of one image may take, in milliseconds; None for no limit.
        max_memory_mb: what serving may take, in MiB; None for no limit.
        optimize_for: what the export is made for, one of `kcnn.serving.export.OPTIMIZE_FOR`.
        keep_versions: how many versions to leave in the folder, 2 or more; None for all.
    """

    config: Config
    name: str | None
    saved_models: str
    tune: int = 0
    schema: str | None = None
    min_accuracy: float = 0.0
    min_slice_accuracy: float = 0.0
    allow_worse: bool = False
    max_latency_ms: float | None = None
    max_memory_mb: float | None = None
    keep_versions: int | None = None
    optimize_for: str = "latency"


def graph(job: Job, weights: str | None, fingerprint: str) -> list[Node]:
    """The steps, as data flow."""
    config = job.config
    found = validated_examples(
        job,
        dataset=config.dataset,
        data_dir=config.data_dir,
        offline=config.offline,
        fingerprint=fingerprint,
        labelled=True,
        schema_file=job.schema,
    )
    examples, schema, findings = found["examples"], found["schema"], found["findings"]
    transform_graph = transform(
        model=config.model, image_size=config.image_size, examples=examples, schema=schema
    ).outputs["transform_graph"]
    digest = weights_digest(weights, config.model)
    hyperparameters = None
    if job.tune:
        hyperparameters = tuner(
            config=config.to_json(),
            weights=weights,
            weights_digest=digest,
            trials=job.tune,
            examples=examples,
            transform_graph=transform_graph,
        ).outputs["best_hyperparameters"]
    model = trainer(
        config=config.to_json(),
        weights=weights,
        weights_digest=digest,
        optimize_for=job.optimize_for,
        resume=job.resume,
        examples=examples,
        transform_graph=transform_graph,
        hyperparameters=hyperparameters,
    ).outputs["model"]
    baseline, baseline_digest = last_pushed(Path(job.saved_models, str(job.name)))
    evaluated = evaluator(
        baseline=baseline,
        baseline_digest=baseline_digest,
        min_accuracy=job.min_accuracy,
        min_slice_accuracy=job.min_slice_accuracy,
        examples=examples,
        model=model,
    ).outputs
    evaluation = evaluated["evaluation"]
    infra_blessing = infra_validator(
        serving_image=find_image(),
        max_latency_ms=job.max_latency_ms,
        max_memory_mb=job.max_memory_mb,
        examples=examples,
        model=model,
        evaluation=evaluation,
    ).outputs["blessing"]
    pushed = pusher(
        name=job.name,
        saved_models=job.saved_models,
        keep_versions=job.keep_versions,
        allow_worse=job.allow_worse,
        record={"command": job.command, "dataset": config.dataset, "fingerprint": fingerprint},
        examples=examples,
        model=model,
        evaluation=evaluation,
        model_blessing=evaluated["blessing"],
        infra_blessing=infra_blessing,
    ).outputs["pushed"]
    label_errors = label_audit(
        dataset=config.dataset,
        examples=examples,
        findings=findings,
        transform_graph=transform_graph,
        model=model,
    ).outputs["errors"]
    return [
        port.node
        for port in (
            *found.values(),
            transform_graph,
            hyperparameters,
            model,
            evaluation,
            infra_blessing,
            pushed,
            label_errors,
        )
        if port is not None
    ]


def run(job: Job) -> Path | None:
    """Runs the job, prints what it made and where, and returns the published version's folder, None where the part of
    the pipeline that was asked for publishes nothing.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
        RefusedError: the model was made and evaluated, and a gate refuses to publish it.
    """
    config = job.config
    if config.objective != "classes":
        raise UserError(
            f"--objective {config.objective}: expected classes, which a classifier learns; others go with pretrain"
        )
    spec = model_spec(config.model)
    name = job.name or spec.name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"--name {name!r}: expected letters, digits, '.', '_' and '-'")
    if job.optimize_for not in OPTIMIZE_FOR:
        raise UserError(f"--optimize_for {job.optimize_for!r}: {nearest(job.optimize_for, OPTIMIZE_FOR)}")
    check_writable("--saved_models", Path(job.saved_models, name))
    check_writable("--pipeline_root", Path(job.pipeline_root))
    dataset = open_dataset(config.dataset, data_dir=config.data_dir, offline=config.offline)
    dataset = leave_out(dataset, job.exclude)
    check_names(config)
    check_gates(job.keep_versions, job.max_latency_ms, job.max_memory_mb)
    check_tune(job.tune)
    config, weights = settle_weights(config)
    nodes = graph(dataclasses.replace(job, config=config, name=name), weights, dataset.fingerprint)
    made = jobs.run(job, nodes, pipeline="image_classification", goal="Pusher", config=config.to_dict())
    if made is None:
        return None
    print(report(made))
    pushed = made["Pusher"]["pushed"]
    if pushed.refused():
        how = f". To go on: {'; '.join(pushed.notes())}" if pushed.notes() else ""
        raise RefusedError(f"not published: {'; '.join(pushed.refused())}{how}")
    return pushed.version()
