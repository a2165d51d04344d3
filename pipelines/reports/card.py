"""The card of a published model: what a reader needs to trust it, in one JSON file."""

import datetime
import importlib.metadata
import platform
from typing import Any

import kcnn
from pipelines.artifacts.blessing import InfraBlessing, ModelBlessing
from pipelines.artifacts.evaluation import ModelEvaluation
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.serving import Model
from pipelines.artifacts.training import ModelRun

_PACKAGES = ("tensorflow", "keras", "keras-cv", "numpy", "scikit-learn", "pillow")


def describe_version(
    record: dict[str, Any],
    examples: Examples,
    model_run: ModelRun,
    model: Model,
    evaluation: ModelEvaluation,
    model_blessing: ModelBlessing,
    infra_blessing: InfraBlessing,
) -> dict[str, Any]:
    """Return the card of a version, JSON-able.

    Args:
        record: what only the run knows: command, data set, fingerprint, what to know of how it was published.
        examples: the data.
        model_run: the training.
        model: the export.
        evaluation: the figures of the test images.
        model_blessing: the verdict on the model.
        infra_blessing: the verdict on how it is served.
    """
    summary, config, training = examples.summary(), model_run.config(), model_run.training()
    exported = model.exported()
    return {
        **record,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": config.model,
        "labels": list(summary.labels),
        "preprocessing": training["preprocessing"],
        "counts": summary.counts,
        "exclusions": summary.excluded,
        "warnings": list(summary.warnings),
        "test_metrics": evaluation.metrics(),
        "blessing": {"model": model_blessing.properties(), "infra": infra_blessing.properties()},
        "calibration": exported["calibration"],
        "export": exported["export"],
        "weights": training["weights"],
        "weights_package": training.get("weights_package"),  # trainings before there were packages have none
        "training_seconds": training["seconds"],
        "seed": config.seed,
        "config": config.to_dict(),
        "versions": {
            "kcnn": kcnn.__version__,
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in _PACKAGES},
        },
    }
