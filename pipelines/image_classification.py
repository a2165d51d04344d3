"""The main job: from a data set to a published classifier. Read `graph` from top to bottom."""

import dataclasses
import re
from pathlib import Path
from typing import Any

from kcnn.config import Config
from kcnn.data.datasets import open_dataset
from kcnn.errors import UserError
from kcnn.models.factory import model_spec
from pipelines import job as jobs
from pipelines.component import Node
from pipelines.components.evaluator import evaluator
from pipelines.components.example_gen import example_gen
from pipelines.components.example_validator import example_validator
from pipelines.components.infra_validator import infra_validator
from pipelines.components.pusher import pusher
from pipelines.components.schema_gen import schema_gen
from pipelines.components.statistics_gen import statistics_gen
from pipelines.components.trainer import trainer
from pipelines.preflight import check_names, check_writable, settle_weights, weights_digest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(jobs.Job):
    """A run of the pipeline.

    Attributes:
        config: how to train, and on what.
        name: the published model's name; None for the model's own.
        saved_models: the folder that publishes.
    """

    config: Config
    name: str | None
    saved_models: str


def graph(job: Job, weights: str | None, fingerprint: str) -> list[Node]:
    """The steps, as data flow."""
    config = job.config
    examples = example_gen(
        dataset=config.dataset,
        data_dir=config.data_dir,
        offline=config.offline,
        fingerprint=fingerprint,
        labelled=True,
    ).outputs["examples"]
    statistics = statistics_gen(examples=examples).outputs["statistics"]
    schema = schema_gen(statistics=statistics).outputs["schema"]
    anomalies = example_validator(statistics=statistics, schema=schema).outputs["anomalies"]
    model = trainer(
        config=config.to_json(),
        weights=weights,
        weights_digest=weights_digest(weights, config.model),
        resume=job.resume,
        examples=examples,
    ).outputs["model"]
    evaluation = evaluator(examples=examples, model=model).outputs["evaluation"]
    blessing = infra_validator(examples=examples, model=model, evaluation=evaluation).outputs["blessing"]
    pushed = pusher(
        name=job.name,
        saved_models=job.saved_models,
        record={"command": job.command, "dataset": config.dataset, "fingerprint": fingerprint},
        examples=examples,
        model=model,
        evaluation=evaluation,
        blessing=blessing,
    ).outputs["pushed"]
    return [port.node for port in (examples, statistics, schema, anomalies, model, evaluation, blessing, pushed)]


def run(job: Job) -> Path | None:
    """Runs the job, prints what it made and where, and returns the published version's folder, None where the part of
    the pipeline that was asked for publishes nothing.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
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
    check_names(config)
    config, weights = settle_weights(config)
    nodes = graph(dataclasses.replace(job, config=config, name=name), weights, dataset.fingerprint)
    made = jobs.run(job, nodes, pipeline="image_classification", goal="Pusher", config=config.to_dict())
    if made is None:
        return None
    version = made["Pusher"]["pushed"].version()
    print(report(made, version))
    return version


def report(made: dict[str, dict[str, Any]], version: Path) -> str:
    """What was made and where, on one screen."""
    metrics, summary = made["Evaluator"]["evaluation"].metrics(), made["ExampleGen"]["examples"].summary()

    def percent(figure: dict[str, float]) -> str:
        return f"{figure['value']:.1%} (95% interval {figure['low']:.1%} to {figure['high']:.1%})"

    # A run of a part of the pipeline may do without.
    anomalies = made["ExampleValidator"]["anomalies"].lines() if "ExampleValidator" in made else []
    figures = [(name, metrics[key]) for name, key in (("top-1", "top1"), ("top-5", "top5")) if key in metrics]
    lines = [
        *(f"Warning: {warning}" for warning in [*summary.warnings, *anomalies]),
        *(f"Test {name}: {percent(figure)} on {metrics['examples']} held-out images" for name, figure in figures),
        f"Published: {version}",
        f"  report:  {version}/assets.extra/evaluation/confusion_matrix.png, per_class.csv, predictions.csv",
        f"  card:    {version}/assets.extra/card.json",
        f"  logs:    tensorboard --logdir {made['Trainer']['model'].path / 'logs'}",
        f"  predict: python main.py predict {version.parent} IMAGE...",
    ]
    return "\n".join(lines)
