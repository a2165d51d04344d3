"""Evaluation of the exported model itself, as it will be served, on the records of the test split."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from kcnn import progress
from kcnn.data import examples
from kcnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an export answered.

    Attributes:
        class_names: the export's C labels.
        filenames: the N files, in the order of the records.
        labels: int64 [N], the true classes.
        probabilities: float32 [N, C], the answers.
    """

    class_names: list[str]
    filenames: list[str]
    labels: np.ndarray
    probabilities: np.ndarray


def _undecodable(answer: Callable, encoded: tf.Tensor, names: list[str]) -> str:
    """The file for which a request failed: each is asked alone."""
    for index, name in enumerate(names):
        try:
            answer(image_bytes=encoded[index : index + 1])
        except tf.errors.InvalidArgumentError:
            return name
    raise AssertionError("the images fail together and not alone")


def evaluate_export(
    export_dir: str | os.PathLike, paths: list[str], batch_size: int = 64, total: int | None = None
) -> Evaluation:
    """Sends the encoded images of a split through `serving_default`; memory grows by N C float32 values.

    Args:
        export_dir: a SavedModel written by `kcnn.serving.export`.
        paths: the split's shards (`kcnn.data.examples.shard_paths`).
        batch_size: images in one request.
        total: the split's examples, for the progress bar's time left.

    Raises:
        UserError: there are no examples, or an image cannot be decoded (it is named: nothing is left out of the score).
    """
    if not paths:
        raise UserError("no files to evaluate: the split has no shards")
    served = tf.saved_model.load(str(export_dir))
    answer = served.signatures["serving_default"]
    class_names = Path(export_dir, "assets", "labels.txt").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    batches = examples.read(paths).map(examples.parse).batch(batch_size).prefetch(1)
    filenames: list[str] = []
    labels: list[np.ndarray] = []
    probabilities: list[np.ndarray] = []
    with progress.bar(total=total, description="Evaluating", unit="img") as bar:
        for batch in batches:
            names = [name.decode("utf-8", "surrogateescape") for name in batch["filename"].numpy()]
            try:
                probabilities.append(answer(image_bytes=batch["encoded"])["probabilities"].numpy())
            except tf.errors.InvalidArgumentError as error:
                raise UserError(
                    f"{_undecodable(answer, batch['encoded'], names)!r} of the test split cannot be decoded"
                ) from error
            labels.append(batch["label"].numpy())
            filenames += names
            bar.update(len(names))
    if not filenames:
        raise UserError(f"no examples to evaluate in {', '.join(paths)}")
    return Evaluation(class_names, filenames, np.concatenate(labels), np.concatenate(probabilities))
