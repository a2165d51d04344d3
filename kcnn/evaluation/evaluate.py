"""Evaluation of the exported model itself, as it will be served, on the records of the test split."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from kcnn import progress
from kcnn.data import examples, records
from kcnn.errors import UserError
from kcnn.evaluation.slices import Attribute, AttributeCollector
from kcnn.json_files import read_small_text
from kcnn.plain_paths import plain_path


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The answers of an export.

    Attributes:
        class_names: the export's C labels.
        filenames: the N files, in the order of the records.
        labels: int64 [N], the true classes.
        probabilities: float32 [N, C], the answers.
        uncalibrated: float32 [N], the top classes' probabilities if the logits' temperature were 1; None where the
            export has no output of logits.
        attributes: the attributes that divide the N examples into slices.
    """

    class_names: list[str]
    filenames: list[str]
    labels: np.ndarray
    probabilities: np.ndarray
    uncalibrated: np.ndarray | None = None
    attributes: Sequence[Attribute] = ()

    @property
    def correct(self) -> np.ndarray:
        """The answers whose most probable class is the true one, as bool [N]."""
        return self.probabilities.argmax(axis=1) == self.labels


def _class_names(export_dir: str | os.PathLike[str]) -> list[str]:
    return read_small_text(Path(export_dir, "assets", "labels.txt")).removesuffix("\n").split("\n")


def _answers(
    export_dir: str | os.PathLike[str], paths: Sequence[str], batch_size: int, total: int | None, description: str
) -> Iterator[tuple[list[Any], dict[str, np.ndarray]]]:
    """Yield batches of records, as features by name, with the outputs of `serving_default`."""
    with plain_path(export_dir) as path:
        served = tf.saved_model.load(path)
    answer = served.signatures["serving_default"]
    with _full_precision(), progress.bar(total=total, description=description, unit="img") as bar:
        for batch in examples.read_examples(list(paths)).batch(batch_size).prefetch(1):
            features = [records.TFExample.FromString(record).features.feature for record in batch.numpy()]
            encoded = tf.constant([feature["image/encoded"].bytes_list.value[0] for feature in features])
            outputs = {name: tensor.numpy() for name, tensor in answer(image_bytes=encoded).items()}
            # Exports of earlier versions have no status, and fail.
            for feature, status in zip(features, outputs.get("status", ()), strict=False):
                if status:
                    raise UserError(f"{_filename(feature)!r} of the test split cannot be decoded: {status.decode()}")
            yield features, outputs
            bar.update(len(features))


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    """Make GPUs multiply in float32: in TF32 they differ by up to 1e-2 from every CPU that serves the model."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _filename(feature: Any) -> str:
    return feature["image/filename"].bytes_list.value[0].decode("utf-8", "surrogateescape")


def _label(feature: Any) -> int:
    return feature["image/class/label"].int64_list.value[0]


def evaluate_export(
    export_dir: str | os.PathLike[str], paths: list[str], batch_size: int = 64, total: int | None = None
) -> Evaluation:
    """Send the encoded images of a split through `serving_default`; memory grows by N C float32 values.

    Args:
        export_dir: a SavedModel that `kcnn.serving.export.classifier` wrote.
        paths: the split's shards (`kcnn.data.examples.shard_paths`).
        batch_size: images in one request.
        total: the split's examples, for the progress bar's time left.

    Raises:
        UserError: there are no examples; an image cannot be decoded (it is named: nothing is left out of the score);
            or an answer is no number.
    """
    if not paths:
        raise UserError("no files to evaluate: the split has no shards")
    class_names = _class_names(export_dir)
    collector = AttributeCollector()
    filenames: list[str] = []
    labels: list[int] = []
    probabilities: list[np.ndarray] = []
    uncalibrated: list[np.ndarray] = []
    for features, outputs in _answers(export_dir, paths, batch_size, total, "Evaluating"):
        answered = outputs["probabilities"]
        for feature in features:
            collector.add(feature)
        if not np.isfinite(answered).all():
            lost = _filename(features[int((~np.isfinite(answered)).any(axis=1).argmax())])
            raise UserError(
                f"the model's answer for {lost!r} is no number: its training diverged; lower --learning_rate"
            )
        filenames += map(_filename, features)
        labels += map(_label, features)
        probabilities.append(answered)
        if "logits" in outputs:
            uncalibrated.append(softmax(outputs["logits"], axis=1).max(axis=1))
    if not filenames:
        raise UserError(f"no examples to evaluate in {', '.join(paths)}")
    true = np.array(labels, np.int64)
    return Evaluation(
        class_names,
        filenames,
        true,
        np.concatenate(probabilities),
        np.concatenate(uncalibrated) if uncalibrated else None,
        collector.attributes(true, class_names),
    )


def correct_answers(
    export_dir: str | os.PathLike[str],
    paths: Sequence[str],
    class_names: Sequence[str],
    batch_size: int = 64,
    total: int | None = None,
) -> np.ndarray:
    """Evaluate another export on the same records, and return which answers are right.

    Args:
        export_dir: the other export, with the same classes in any order.
        paths: the split's shards.
        class_names: what the records' labels mean.
        batch_size: images in one request.
        total: the split's examples, for the progress bar's time left.

    Returns:
        bool [N], in the order of the records.

    Raises:
        UserError: the export has other classes, cannot be loaded, or fails on an image; the message is the reason
            alone.
    """
    try:
        names = _class_names(export_dir)
        if sorted(names) != sorted(class_names):
            raise UserError(_other_classes(set(names), set(class_names)))
        index = {name: place for place, name in enumerate(class_names)}
        place = np.array([index[name] for name in names])
        right = [
            place[outputs["probabilities"].argmax(axis=1)] == np.array([_label(feature) for feature in features])
            for features, outputs in _answers(export_dir, paths, batch_size, total, "Evaluating the last pushed")
        ]
    except (OSError, ValueError, KeyError, IndexError, tf.errors.OpError) as error:
        if isinstance(error, UserError):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"it cannot be run: {reason[:200] or type(error).__name__}") from error
    return np.concatenate(right)


def _other_classes(theirs: set[str], ours: set[str]) -> str:
    lacks, more = sorted(ours - theirs), sorted(theirs - ours)
    parts = [
        f"{verb} {', '.join(names[:3])}" + f" and {len(names) - 3} more" * (len(names) > 3)
        for verb, names in (("lacks", lacks), ("has", more))
        if names
    ]
    return f"it has other classes: it {' and '.join(parts)}"
