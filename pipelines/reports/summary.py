"""The end of a run: what the main job made and where, on one screen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kcnn.checks import Check
from kcnn.data.scan.findings import scan_warnings
from kcnn.evaluation.slices import least_accurate
from kcnn.serving.formats.catalogue import FORMATS
from kcnn.training.trials import describe_values
from pipelines.artifacts.audit import LabelErrors
from pipelines.artifacts.tuning import HyperParameters, TunerResults

WORST = 3  # slices that it names
SLICES = {
    "slice_not_worse": "Slices against the last version",
    "slice_accuracy": "Slices against --min_slice_accuracy",
}


def summarize_run(made: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of what was made and where, on one screen."""
    metrics, summary = made["Evaluator"]["evaluation"].metrics(), made["ExampleGen"]["examples"].summary()

    def percent(figure: dict[str, float]) -> str:
        return f"{figure['value']:.1%} (95% interval {figure['low']:.1%} to {figure['high']:.1%})"

    # A run of a part of the pipeline may do without.
    evaluation, gate = made["Evaluator"]["evaluation"], made["Gate"]["blessing"]
    pushed, infra = made["Pusher"]["pushed"], made["InfraValidator"]["blessing"]
    version = pushed.version()
    anomalies = made["ExampleValidator"]["anomalies"].lines() if "ExampleValidator" in made else []
    scanned = []
    if "DataReport" in made:
        scanned = scan_warnings(made["ImageScan"]["findings"].read(), made["DataReport"]["report"].page)
    tables = version / "assets.extra" / "evaluation" if version else evaluation.report
    figures = [(name, metrics[key]) for name, key in (("top-1", "top1"), ("top-5", "top5")) if key in metrics]
    return [
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
        *(describe_search(**made["Tuner"]) if "Tuner" in made else []),
        *(f"Test {name}: {percent(figure)} on {metrics['examples']} held-out images" for name, figure in figures),
        *describe_worst_slices(metrics),
        *describe_verdicts(gate.checks(), infra.checks()),
        *(describe_label_errors(made["LabelAudit"]["errors"]) if "LabelAudit" in made else []),
        f"Published: {version}" if version else "Published: nothing",
        f"  report:  {tables}/confusion_matrix.png, per_class.csv, slices.csv, predictions.csv",
        *([f"  card:    {version}/assets.extra/card.json"] if version else [f"  checks:  {gate.path}/checks.json"]),
        f"  logs:    tensorboard --logdir {made['Trainer']['model_run'].path / 'logs'}",
        *(describe_formats(version, infra.facts()) if version else []),
        *([f"  predict: python main.py predict {version.parent} IMAGE..."] if version else []),
    ]


def describe_formats(version: Path, infra: Mapping[str, Any]) -> list[str]:
    """Return a line for each format beside the SavedModel: where, how large, and how well it agrees."""
    compared = infra.get("formats", {"formats": {}})
    return [
        f"  {name}: {FORMATS[name].file(version)}, {found['bytes'] / 2**20:.1f} MiB, {found['milliseconds']:.1f} ms an "
        f"image; the same top class for {found['agreement']:.1%} of {compared['files']} test images"
        for name, found in compared["formats"].items()
        if name != "savedmodel"
    ]


def describe_search(best_hyperparameters: HyperParameters, tuner_results: TunerResults) -> list[str]:
    """Return what a search chose, what it rests on, and where the trials are."""
    found, folder = tuner_results.properties(), tuner_results.path
    return [
        f"Tuned: {describe_values(best_hyperparameters.values())}",
        f"  validation accuracy {found['best']:.2%} in trial {found['best_trial']} of {found['trials']}, "
        f"{found['own']:.2%} with the recipe's own values; the best of many looks better than it is",
        f"  trials:  {folder}/trials.csv, trials.png",
    ]


def describe_label_errors(errors: LabelErrors) -> list[str]:
    """Return a line for the labels that look wrong, if any do."""
    count = errors.properties()["label_errors"]
    return [f"{count} image{'s look' if count > 1 else ' looks'} mislabelled: {errors.page}"] * bool(count)


def describe_worst_slices(metrics: dict[str, Any]) -> list[str]:
    """Return a line for the slices of the test images with the least accuracy, if any is below that of all."""
    rows = least_accurate(metrics["slices"], metrics["top1"]["value"], WORST)
    return [
        "Weakest slices: "
        + ", ".join(
            f"{row['attribute']}={row['value']} {row['accuracy']['value']:.1%} of {row['examples']}" for row in rows
        )
    ] * bool(rows)


def describe_verdicts(gate: Sequence[Check], infra: Sequence[Check]) -> list[str]:
    """Return what the gates found: the comparison with the last version, the slices counted, how it serves.

    What failed stands elsewhere: it was refused, or published with a warning.
    """
    lines = [f"Comparison: {check.said}" for check in gate if check.name == "not_worse" and check.passed is not False]
    for name in dict.fromkeys(check.name for check in gate if check.slice is not None):
        counts = Counter(check.passed for check in gate if check.name == name and check.slice is not None)
        counted = {"passed": counts[True], "failed": counts[False], "too small to tell": counts[None]}
        lines.append(f"{SLICES[name]}: {', '.join(f'{count} {end}' for end, count in counted.items() if count)}")
    serving = [check.said for check in infra if check.name in ("latency", "memory") and check.passed is not False]
    return lines + [f"Serving: {'; '.join(serving)}"] * bool(serving)
