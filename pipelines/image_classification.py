"""The main job: from a data set to a published classifier. Read `graph` from top to bottom."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kcnn.checks import Check
from kcnn.config import Config
from kcnn.data import exclusions
from kcnn.data.datasets import open_dataset
from kcnn.data.scan import remarks
from kcnn.errors import RefusedError, UserError
from kcnn.evaluation.slices import worst
from kcnn.models.factory import model_spec
from kcnn.serving.tensorflow_serving import find_image
from kcnn.training.trials import in_words
from pipelines import job as jobs
from pipelines.artifacts import HyperParameters, LabelErrors, TunerResults
from pipelines.component import Node
from pipelines.components.data_report import data_report
from pipelines.components.evaluator import evaluator
from pipelines.components.example_gen import example_gen
from pipelines.components.example_validator import example_validator
from pipelines.components.image_scan import image_scan
from pipelines.components.infra_validator import infra_validator
from pipelines.components.label_audit import label_audit
from pipelines.components.pusher import pusher
from pipelines.components.schema_gen import schema_gen
from pipelines.components.statistics_gen import statistics_gen
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
    previous_statistics,
    schema_digest,
    settle_weights,
    weights_digest,
)

WORST = 3  # slices that the summary names
SLICES = {
    "slice_not_worse": "Slices against the last version",
    "slice_accuracy": "Slices against --min_slice_accuracy",
}


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


def graph(job: Job, weights: str | None, fingerprint: str) -> list[Node]:
    """The steps, as data flow."""
    config = job.config
    examples = example_gen(
        dataset=config.dataset,
        data_dir=config.data_dir,
        offline=config.offline,
        fingerprint=fingerprint,
        labelled=True,
        exclude=job.exclude,
        exclude_digest=exclusions.digest(job.exclude),
        beam=job.beam,
    ).outputs["examples"]
    statistics = statistics_gen(examples=examples, beam=job.beam).outputs["statistics"]
    schema = schema_gen(statistics=statistics, schema_file=job.schema, schema_digest=schema_digest(job.schema)).outputs[
        "schema"
    ]
    anomalies = example_validator(
        statistics=statistics,
        schema=schema,
        **previous_statistics(Path(job.pipeline_root), config.dataset, fingerprint),
    ).outputs["anomalies"]
    findings = image_scan(examples=examples).outputs["findings"]
    page = data_report(
        dataset=config.dataset,
        examples=examples,
        statistics=statistics,
        anomalies=anomalies,
        findings=findings,
    ).outputs["report"]
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
            examples,
            statistics,
            schema,
            anomalies,
            findings,
            page,
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


def report(made: dict[str, dict[str, Any]]) -> str:
    """What was made and where, on one screen."""
    metrics, summary = made["Evaluator"]["evaluation"].metrics(), made["ExampleGen"]["examples"].summary()

    def percent(figure: dict[str, float]) -> str:
        return f"{figure['value']:.1%} (95% interval {figure['low']:.1%} to {figure['high']:.1%})"

    # A run of a part of the pipeline may do without.
    evaluation, gate = made["Evaluator"]["evaluation"], made["Evaluator"]["blessing"]
    pushed, infra = made["Pusher"]["pushed"], made["InfraValidator"]["blessing"]
    version = pushed.version()
    anomalies = made["ExampleValidator"]["anomalies"].lines() if "ExampleValidator" in made else []
    scanned = []
    if "DataReport" in made:
        scanned = remarks(made["ImageScan"]["findings"].read(), made["DataReport"]["report"].page)
    tables = version / "assets.extra" / "evaluation" if version else evaluation.report
    figures = [(name, metrics[key]) for name, key in (("top-1", "top1"), ("top-5", "top5")) if key in metrics]
    lines = [
        *(
            f"Warning: {warning}"
            for warning in [
                *summary.warnings,
                *anomalies,
                *scanned,
                *gate.facts()["warnings"],
                *(pushed.notes() if version else []),
            ]
        ),
        *(tuned(**made["Tuner"]) if "Tuner" in made else []),
        *(f"Test {name}: {percent(figure)} on {metrics['examples']} held-out images" for name, figure in figures),
        *worst_slices(metrics),
        *verdicts(gate.checks(), infra.checks()),
        *(mislabelled(made["LabelAudit"]["errors"]) if "LabelAudit" in made else []),
        f"Published: {version}" if version else "Published: nothing",
        f"  report:  {tables}/confusion_matrix.png, per_class.csv, slices.csv, predictions.csv",
        *([f"  card:    {version}/assets.extra/card.json"] if version else [f"  checks:  {gate.path}/checks.json"]),
        f"  logs:    tensorboard --logdir {made['Trainer']['model'].path / 'logs'}",
        *([f"  predict: python main.py predict {version.parent} IMAGE..."] if version else []),
    ]
    return "\n".join(lines)


def tuned(best_hyperparameters: HyperParameters, tuner_results: TunerResults) -> list[str]:
    """What a search chose, what it rests on, and where the trials are."""
    found, folder = tuner_results.properties(), tuner_results.path
    return [
        f"Tuned: {in_words(best_hyperparameters.values())}",
        f"  validation accuracy {found['best']:.2%} in trial {found['best_trial']} of {found['trials']}, "
        f"{found['own']:.2%} with the recipe's own values; the best of many looks better than it is",
        f"  trials:  {folder}/trials.csv, trials.png",
    ]


def mislabelled(errors: LabelErrors) -> list[str]:
    """A line for the labels that look wrong, if any do."""
    count = errors.properties()["label_errors"]
    return [f"{count} image{'s look' if count > 1 else ' looks'} mislabelled: {errors.page}"] * bool(count)


def worst_slices(metrics: dict[str, Any]) -> list[str]:
    """A line for the slices of the test images with the least accuracy, if any is below that of all."""
    rows = worst(metrics["slices"], metrics["top1"]["value"], WORST)
    return [
        "Weakest slices: "
        + ", ".join(
            f"{row['attribute']}={row['value']} {row['accuracy']['value']:.1%} of {row['examples']}" for row in rows
        )
    ] * bool(rows)


def verdicts(gate: Sequence[Check], infra: Sequence[Check]) -> list[str]:
    """What the gates found: the comparison with the last version, the slices counted, how it serves. What failed is
    said elsewhere: it was refused, or published with a warning.
    """
    lines = [f"Comparison: {check.said}" for check in gate if check.name == "not_worse" and check.passed is not False]
    for name in dict.fromkeys(check.name for check in gate if check.slice is not None):
        counts = Counter(check.passed for check in gate if check.name == name and check.slice is not None)
        told = {"passed": counts[True], "failed": counts[False], "too small to tell": counts[None]}
        lines.append(f"{SLICES[name]}: {', '.join(f'{count} {end}' for end, count in told.items() if count)}")
    serving = [check.said for check in infra if check.name in ("latency", "memory") and check.passed is not False]
    return lines + [f"Serving: {'; '.join(serving)}"] * bool(serving)
