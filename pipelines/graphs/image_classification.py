"""The main job: from a data set to a published classifier. Read `graph` from top to bottom."""

import dataclasses
from pathlib import Path

from kcnn.config import Config
from kcnn.data.datasets.opening import open_dataset
from kcnn.errors import UserError
from pipelines.components.label_audit import label_audit
from pipelines.components.trainer import trainer
from pipelines.components.transform import transform
from pipelines.components.tuner import tuner
from pipelines.engine.component import Node
from pipelines.graphs.job import Job, run_graph
from pipelines.graphs.preflight import (
    check_apart,
    check_classes,
    check_names,
    check_tune,
    check_writable,
    leave_out,
    settle_dataset,
    settle_weights,
    weights_digest,
)
from pipelines.graphs.publication import Publication, check_publication, conclude, publication_steps
from pipelines.graphs.validation import validation_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingJob(Job):
    """A call of the pipeline.

    Attributes:
        config: how to train, and on what.
        publication: what becomes of the network.
        tune: how many settings to try before training, 2 or more; 0 for none.
        schema: a schema.pbtxt in the place of the inferred one; None to infer it.
    """

    config: Config
    publication: Publication
    tune: int = 0
    schema: str | None = None


def graph(job: TrainingJob, weights: str | None, fingerprint: str) -> list[Node]:
    """Return the steps, as data flow."""
    config = job.config
    found = validation_steps(
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
        model=config.model, image_size=config.image_size, examples=examples, schema=schema, weights=weights
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
    model_run = trainer(
        config=config.to_json(),
        weights=weights,
        weights_digest=digest,
        examples=examples,
        transform_graph=transform_graph,
        hyperparameters=hyperparameters,
    ).outputs["model_run"]
    record = {"command": job.command, "dataset": config.dataset, "fingerprint": fingerprint}
    made = publication_steps(
        job.publication, record, examples=examples, transform_graph=transform_graph, model_run=model_run
    )
    label_errors = label_audit(
        dataset=config.dataset,
        examples=examples,
        findings=findings,
        transform_graph=transform_graph,
        model_run=model_run,
    ).outputs["errors"]
    ports = [*found.values(), transform_graph, hyperparameters, model_run, *made.values(), label_errors]
    return [port.node for port in ports if port is not None]


def run(job: TrainingJob) -> Path | None:
    """Run the job, and print what it made and where.

    Returns:
        the published version's folder; None where the part of the pipeline that was asked for publishes nothing.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
        RefusedError: the model was made and evaluated, and a gate refuses to publish it.
    """
    config = settle_dataset(job.config)
    if config.objective != "classes":
        raise UserError(
            f"--objective {config.objective}: expected classes, which a classifier learns; others go with pretrain"
        )
    check_publication(job.publication)
    check_writable("--pipeline_root", Path(job.pipeline_root))
    check_apart("--pipeline_root", Path(job.pipeline_root), config.dataset)
    check_apart("--saved_models", Path(job.publication.saved_models), config.dataset)
    dataset = open_dataset(config.dataset, data_dir=config.data_dir, offline=config.offline)
    check_classes(config.dataset, dataset)
    dataset = leave_out(dataset, job.exclude)
    check_names(config)
    check_tune(job.tune)
    config, weights = settle_weights(config)
    nodes = graph(dataclasses.replace(job, config=config), weights, dataset.fingerprint)
    made = run_graph(job, nodes, pipeline="image_classification", goal="Pusher", config=config.to_dict())
    return conclude(made) if made is not None else None
