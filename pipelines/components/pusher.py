"""Pusher: the blessed model is published under the next version number, by a rename."""

import shutil
from pathlib import Path
from typing import Any

from kcnn.checks import failures
from kcnn.data.examples import first_images
from kcnn.errors import UserError
from kcnn.progress import clock
from kcnn.serving.publishing import bundle, versions
from kcnn.serving.publishing.card import write_card
from kcnn.serving.publishing.pruning import prune_versions
from kcnn.terminal import print_lines
from pipelines.artifacts.blessing import InfraBlessing, ModelBlessing
from pipelines.artifacts.evaluation import ModelEvaluation
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.pushing import PushedModel
from pipelines.artifacts.serving import Model
from pipelines.artifacts.training import ModelRun
from pipelines.engine.component import Output, component
from pipelines.reports.card import describe_version

# How to go on where a check failed, by its name up to a comma.
REMEDIES = {
    "accuracy": "train longer or on more images, or ask for less with --min_accuracy",
    "slice_accuracy": "add images of the slice, or ask for less with --min_slice_accuracy",
    "not_worse": "--allow_worse publishes it all the same",
    "slice_not_worse": "--allow_worse publishes it all the same",
    "latency": "choose a smaller model, or allow more with --max_latency_ms",
    "format": "leave it out of --formats",
    "memory": "choose a smaller model, or allow more with --max_memory_mb",
}
WARMUP_IMAGES = max(bundle.BATCH_SIZES)
_COMPARISONS = ("not_worse", "slice_not_worse")


@component(cached=False)
def pusher(
    name: str,
    saved_models: str,
    keep_versions: int | None,
    allow_worse: bool,
    record: dict[str, Any],
    examples: Examples,
    model_run: ModelRun,
    model: Model,
    evaluation: ModelEvaluation,
    model_blessing: ModelBlessing,
    infra_blessing: InfraBlessing,
    pushed: Output[PushedModel],
) -> None:
    """Publish the export with its card, reports and warm-up requests as `<saved_models>/<name>/<version>`.

    Nothing is published where a blessing is missing.

    Args:
        name: of the published model.
        saved_models: the folder that publishes.
        keep_versions: how many versions to leave there, the newest; None for all.
        allow_worse: publish a model too that is worse than the last that was pushed.
        record: what only the run knows, for the card.
        examples: the images.
        model_run: the trained network.
        model: the export.
        evaluation: what it answered.
        model_blessing: the verdict on its answers.
        infra_blessing: the verdict on how it serves.
        pushed: what is made.
    """
    failed = [check for check in [*model_blessing.checks(), *infra_blessing.checks()] if check.passed is False]
    worse = [check for check in failed if allow_worse and check.name in _COMPARISONS]
    refused = [check for check in failed if check not in worse]
    if refused:
        known = [REMEDIES[name] for check in refused if (name := check.name.partition(",")[0]) in REMEDIES]
        pushed.write(None, refused=failures(refused), notes=list(dict.fromkeys(known)))
        return
    folder = Path(saved_models, name)
    notes = [f"published because of --allow_worse: {line}" for line in failures(worse)]
    present = versions.list_versions(folder)
    if present and versions.version_digest(present[-1]) != model_blessing.facts()["baseline_digest"]:
        notes.append(f"published without a comparison with {present[-1]}, which appeared while this run was at work")

    known_by = {**record, "notes": notes, "publication": pushed.begin(folder)}

    def write(staged: Path) -> None:
        shutil.copytree(model.serving, staged)
        card = describe_version(known_by, examples, model_run, model, evaluation, model_blessing, infra_blessing)
        write_card(staged, card)
        shutil.copytree(evaluation.report, staged / "assets.extra" / "evaluation")
        bundle.write_warmup(staged, name, list(first_images(examples.shards("train"), WARMUP_IMAGES)))

    with clock("Publishing"):
        version = versions.publish_version(folder, write)
    pushed.write(version, notes=notes)
    try:
        bundle.write_bundle(folder)
    except (OSError, UserError) as error:  # the model is published all the same
        print_lines(f"Warning: what TensorFlow Serving needs in {folder} is not written: {error}")
    if keep_versions is not None:
        try:
            removed = prune_versions(folder, keep_versions)
        except OSError as error:  # the model is published all the same
            print_lines(f"Warning: --keep_versions {keep_versions}: {error}")
        else:
            for old in removed:
                print_lines(f"Removed: {folder / old} (--keep_versions {keep_versions})")
