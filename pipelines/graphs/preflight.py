"""What is settled before the work begins: where it may write, and which weights it starts from."""

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kcnn.config import Config, override
from kcnn.content import sha256
from kcnn.data.datasets import DATASETS, Dataset
from kcnn.data.datasets.folder_layout import read_layout
from kcnn.data.datasets.opening import normalize_dataset_name
from kcnn.data.ingestion import exclusions
from kcnn.data.input_pipeline.augmentations import choose_augmentations
from kcnn.data.input_pipeline.crops import check_crop_augmentations
from kcnn.data.input_pipeline.objectives import OBJECTIVES
from kcnn.data.validation.schema import read_schema
from kcnn.errors import UserError
from kcnn.leftovers import is_data
from kcnn.models.factory import create_model
from kcnn.models.spec import model_spec
from kcnn.recipes import build
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.pruning import FEWEST
from kcnn.terminal import print_lines
from kcnn.training.distillation import load_teacher
from kcnn.training.freezing import set_trainable
from kcnn.training.network import build_network
from kcnn.weights import find_pretrained, find_weights_file, install_hint, load_weights
from kcnn.weights.inheritance import check_heir
from pipelines.engine import metadata


def settle_weights(config: Config) -> tuple[Config, str | None]:
    """Settle the weights that the training starts from, and print them as one line.

    Without weights nothing is frozen: fine-tuning becomes the schedule of the recipe "scratch", and a recipe without
    frozen phases keeps its own.

    Returns:
        the Config to run, and the weights for `load_weights` or None.

    Raises:
        UserError: weights that were asked for by name cannot be had, or do not fit the model.
    """
    spec = model_spec(config.model)
    reasons: list[str] = []

    def load(source: str) -> tuple[Config, str]:
        report = load_weights(build_network(config, 2, config.image_size, "float32"), source, offline=config.offline)
        remarks = [*reasons, *report.remarks]
        print_lines(f"Weights: {source}" + (f" ({'; '.join(remarks)})" if remarks else ""))
        return config, source

    if config.weights not in ("auto", "none"):
        return load(config.weights)
    if config.weights == "none" and all(phase.unfreeze is None for phase in config.phases):
        return config, None
    if config.weights == "auto":
        if hint := install_hint(spec):
            reasons.append(hint)
        for source in find_pretrained(spec, offline=config.offline):
            try:
                return load(source)
            except UserError as error:  # a damaged file, or a design that the weights are not for
                reasons.append(str(error))
        reasons = reasons or ["no pretrained weights to be had"]
    reason = "; ".join(reasons) or "--weights none"
    unused = [f"--{name} {config.overrides[name]}" for name in _OF_WEIGHTS if config.overrides.get(name) is not None]
    without = f", without {' and '.join(unused)}" if unused else ""
    config = _from_scratch(config)
    phases = "one phase" if len(config.phases) == 1 else f"{len(config.phases)} phases"
    print_lines(f"Weights: {reason}, so all of {spec.name} trains from scratch, in {phases}{without}")
    return config, None


_OF_WEIGHTS = ("unfreeze", "transfer", "batch_norm")  # settings that mean something only where weights are loaded


def _from_scratch(config: Config) -> Config:
    """Return `config` for random weights: all layers train, and all else is as it was."""
    given = {name: value for name, value in config.overrides.items() if name not in ("weights", *_OF_WEIGHTS)}
    if any(phase.unfreeze is not None for phase in build(config.recipe).phases):  # its schedule is for loaded weights
        scratch = build("scratch", **given)
        config = dataclasses.replace(config, recipe=scratch.recipe, phases=scratch.phases, patience=scratch.patience)
    return dataclasses.replace(
        config,
        phases=tuple(dataclasses.replace(phase, unfreeze=None) for phase in config.phases),
        weights="none",
        batch_norm=build(config.recipe).batch_norm,
        overrides=given,
    )


def settle_dataset(config: Config) -> Config:
    """Return `config` with the one spelling of its data set by which runs are compared."""
    dataset = normalize_dataset_name(config.dataset)
    return config if dataset == config.dataset else override(config, dataset=dataset)


def check_classes(name: str, dataset: Dataset) -> None:
    """Raise UserError where it is known unread that no classifier can be trained on the data set behind `name`."""
    if dataset.flaws:
        raise UserError(f"--dataset {name}: {dataset.flaws[0]}")
    if dataset.labelled and len(dataset.labels) == 1:
        raise UserError(
            f"--dataset {name}: only one class ({dataset.labels[0]!r}); a classifier needs two or more: expected "
            "<class>/<image> or <train|val|test>/<class>/<image> in a folder, path,label[,split] in a table"
        )


def leave_out(dataset: Dataset, paths: Sequence[str]) -> Dataset:
    """Return `dataset` without the images that the lists at `paths` leave out, and print a line for each list.

    Raises:
        UserError: a list cannot be read, or names a file that is not in the data set.
    """
    left = exclusions.exclude_images(dataset, paths)
    for path in paths:
        print_lines(f"Excluded: {len(exclusions.read_exclusions(Path(path)))} of {dataset.count} images, by {path}")
    return left


def schema_digest(path: str | None) -> str:
    """Return the SHA-256 of a user's schema, "" without one.

    Raises:
        UserError: it cannot be read, is no schema, or has no features.
    """
    if path is None:
        return ""
    try:
        if not read_schema(Path(path)).feature:
            raise UserError(f"{path}: no feature in it; expected an edited schema.pbtxt of SchemaGen")
    except UserError as error:
        raise UserError(f"--schema {error}") from None
    return sha256(Path(path))


def previous_statistics(root: Path, dataset: str, fingerprint: str) -> dict[str, str]:
    """Find what ExampleValidator takes to compare with the last run on other data of the same name.

    Args:
        root: the pipeline's root folder.
        dataset: as ExampleGen's parameter.
        fingerprint: of its present data; runs on the same are none to compare with.

    Returns:
        "previous", the folder of the run's ExampleStatistics, and "previous_fingerprint"; nothing where there was none.
    """
    if not (root / metadata.FILE).exists():
        return {}
    with metadata.reading(root) as db:
        for row in metadata.find_executions(db, "type = 'StatisticsGen' AND state IN ('COMPLETE', 'CACHED')"):
            examples = metadata.find_artifacts(db, row["id"], "INPUT").get("examples")
            makers = (
                "type = 'ExampleGen' AND id IN (SELECT execution FROM event WHERE artifact = ? AND type = 'OUTPUT')"
            )
            made_by = metadata.find_executions(db, makers, examples["id"]) if examples else []
            facts = made_by[-1]["properties"]["parameters"] if made_by else {}
            found = metadata.find_artifacts(db, row["id"], "OUTPUT").get("statistics")
            other = facts.get("dataset") == dataset and facts.get("fingerprint") != fingerprint
            if found and other and (root / found["uri"]).is_dir():
                return {"previous": str(root / found["uri"]), "previous_fingerprint": found["fingerprint"]}
    return {}


def check_names(config: Config) -> None:
    """Raise UserError unless there are such a model, design, stages and augmentations, and they go together."""
    network = build_network(config, 2, config.image_size, "float32")
    for phase in config.phases:
        set_trainable(network, unfreeze=phase.unfreeze, batch_norm=config.batch_norm)
    stages = choose_augmentations(config.phases[-1].augmentations)
    if config.objective == "distill":
        check_crop_augmentations(stages)


def check_teacher(config: Config) -> None:
    """Check the teacher of the objective "distill" and print which weights it has.

    Raises:
        UserError: there is none, or one that has nothing to teach; its weights cannot be had, or not be inherited.
    """
    distills = config.objective == "distill"
    if given := [name for name in _OF_TEACHER if config.overrides.get(name) is not None and not distills]:
        raise UserError(f"--{given[0]} {config.overrides[given[0]]}: expected with --objective distill")
    if not distills:
        return
    if config.teacher is None:
        raise UserError(
            "--objective distill: expected --teacher, a model whose weights can be had, such as efficientnetlite0"
        )
    classes = OBJECTIVES.get(config.objective).classes or 0
    teacher = load_teacher(config, classes, config.image_size)
    if config.weights == "teacher":
        check_heir(create_model(config.model, classes, config.image_size, **config.design), teacher)
    print_lines(f"Teacher: {teacher.name}, weights: {config.teacher_weights}")


_OF_TEACHER = ("teacher", "teacher_weights", "temperature", "crops")  # settings that mean something only with one


def last_pushed(folder: Path) -> tuple[str | None, str]:
    """Return the version of `folder` that is served, and the digest of its answers; None and "" where there is none.

    After a rollback it is the copy that the rollback made.

    Raises:
        UserError: its files cannot be read.
    """
    pushed = versions.list_versions(folder)
    if not pushed:
        return None, ""
    try:
        return str(pushed[-1]), versions.version_digest(pushed[-1])
    except OSError as error:
        raise UserError(f"--saved_models: {pushed[-1]} cannot be read: {error.strerror}") from None


def check_tune(trials: int) -> None:
    """Raise UserError for a search of hyperparameters that cannot be."""
    if trials and trials < 2:
        raise UserError(
            f"--tune {trials}: expected 2 trials or more, the first with the recipe's own values; 0 for none"
        )


def check_gates(keep_versions: int | None, max_latency_ms: float | None, max_memory_mb: float | None) -> None:
    """Raise UserError for limits that nothing can keep."""
    if keep_versions is not None and keep_versions < FEWEST:
        raise UserError(
            f"--keep_versions {keep_versions}: expected {FEWEST} or more: TensorFlow Serving may still be "
            "reading the version before when the next appears"
        )
    for flag, limit in (("--max_latency_ms", max_latency_ms), ("--max_memory_mb", max_memory_mb)):
        if limit is not None and not limit > 0:
            raise UserError(f"{flag} {limit:g}: expected a positive number")


def check_writable(flag: str, folder: Path) -> None:
    """Raise UserError unless `folder` can be made and written to; makes nothing."""
    existing = next(parent for parent in [folder.absolute(), *folder.absolute().parents] if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise UserError(f"{flag} {folder}: cannot be written: {existing}: {error.strerror}") from None


def check_apart(flag: str, output: Path, dataset: str) -> None:
    """Raise UserError where what is made in the folder of a flag would be taken for images of `dataset`."""
    folder = Path(dataset).expanduser()
    if dataset in DATASETS or not os.path.isdir(folder):
        return
    layout, inner = read_layout(folder), output.resolve()
    for home in (folder, *layout.splits, *(one.folder for one in layout.classes)):
        real = home.resolve()
        if inner.is_relative_to(real) and all(map(is_data, inner.relative_to(real).parts)):
            raise UserError(
                f"{flag} {output}: inside --dataset {dataset}, whose files all count as images; expected a folder "
                f"outside, or a hidden one such as .{inner.name}"
            )


def weights_digest(weights: str | None, model: str) -> str:
    """Return the SHA-256 of the file that `weights` name, "" for weights that cannot change under their name."""
    path = None if weights is None else find_weights_file(weights, model_spec(model).name)
    return "" if path is None else sha256(path)
