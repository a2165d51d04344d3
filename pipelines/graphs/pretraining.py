"""Pre-training: from images, with labels or without, to a backbone for others to start from."""

import dataclasses
from pathlib import Path

from kcnn.config import Config
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import exclusions
from kcnn.data.input_pipeline.objectives import OBJECTIVES
from kcnn.models.spec import model_spec
from kcnn.terminal import print_lines
from pipelines.components.example_gen import example_gen
from pipelines.components.pretrainer import pretrainer
from pipelines.engine.code import describe_commit
from pipelines.engine.component import Node
from pipelines.graphs.job import Job, run_graph
from pipelines.graphs.preflight import (
    check_apart,
    check_classes,
    check_names,
    check_teacher,
    check_writable,
    leave_out,
    settle_dataset,
    settle_weights,
    weights_digest,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainingJob(Job):
    """A call of the pipeline.

    Attributes:
        config: how to train, and on what.
    """

    config: Config


def graph(job: PretrainingJob, weights: str | None, fingerprint: str) -> list[Node]:
    """Return the steps, as data flow."""
    config = job.config
    examples = example_gen(
        dataset=config.dataset,
        data_dir=config.data_dir,
        offline=config.offline,
        fingerprint=fingerprint,
        labelled=_labelled(config),
        exclude=job.exclude,
        exclude_digest=exclusions.digest_exclusions(job.exclude),
        beam=job.beam,
    ).outputs["examples"]
    backbone = pretrainer(
        config=config.to_json(),
        weights=weights,
        weights_digest=weights_digest(weights, config.model),
        teacher_digest=weights_digest(config.teacher_weights, config.teacher) if config.teacher else "",
        record={
            "command": job.command,
            "commit": describe_commit(),
            "dataset": config.dataset,
            "fingerprint": fingerprint,
        },
        examples=examples,
    ).outputs["backbone"]
    return [port.node for port in (examples, backbone)]


def run(job: PretrainingJob) -> Path | None:
    """Run the job, and print what it made and where.

    Returns:
        the weights file; None where the part of the pipeline that was asked for makes none.

    Raises:
        UserError: before anything is read or written, whatever can be known to fail by then.
    """
    config = settle_dataset(job.config)
    check_writable("--pipeline_root", Path(job.pipeline_root))
    check_apart("--pipeline_root", Path(job.pipeline_root), config.dataset)
    dataset = open_dataset(config.dataset, data_dir=config.data_dir, offline=config.offline, labelled=_labelled(config))
    check_classes(config.dataset, dataset)
    dataset = leave_out(dataset, job.exclude)
    check_names(config)
    check_teacher(config)
    config, weights = (config, config.weights) if config.weights == "teacher" else settle_weights(config)
    nodes = graph(dataclasses.replace(job, config=config), weights, dataset.fingerprint)
    made = run_graph(job, nodes, pipeline="pretraining", goal="Pretrainer", config=config.to_dict())
    if made is None:
        return None
    backbone = made["Pretrainer"]["backbone"]
    provenance = backbone.provenance()
    what = f"Agreement with {config.teacher}" if config.teacher else "Validation accuracy"
    accuracy, classes = provenance["validation_accuracy"], provenance["classes"]
    judged = "no validation images" if accuracy is None else f"{accuracy:.1%} of {classes} classes"
    print_lines(
        f"{what}: {judged}, after {provenance['hours']:.2f} hours",
        f"Weights: {backbone.weights}",
        f"  to start from them: python main.py --model {model_spec(config.model).name} --finetune "
        f"--weights {backbone.weights}",
    )
    return backbone.weights


def _labelled(config: Config) -> bool:
    """Return whether the objective asks for the data's classes."""
    return OBJECTIVES.get(config.objective).classes is None
