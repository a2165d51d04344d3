"""Embeddings: what the last layer of a trained classifier takes."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kcnn import progress
from kcnn.data import examples
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess
from kcnn.models.taps import penultimate
from kcnn.nn.inference import inference_function

_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """The embeddings of N images, in the order of the splits and their records.

    Attributes:
        features: float32 [N, D], mapped from a file.
        filenames: N names.
        splits: N names of splits.
        labels: int [N], the classes that the images are labelled as.
    """

    features: np.ndarray
    filenames: tuple[str, ...]
    splits: tuple[str, ...]
    labels: np.ndarray


@contextlib.contextmanager
def compute_embeddings(
    model: keras.Model, shards: Mapping[str, Sequence[str]], total: int, preprocessing: Preprocessing, path: Path
) -> Iterator[Embeddings]:
    """Compute the embeddings of all images, and keep them as long as the block lasts.

    Memory holds some batches of images, however large the data is. The disk holds 4 N D bytes, which are removed at the
    block's end.

    Args:
        model: a classifier with one output.
        shards: split → its files.
        total: how many examples they hold, N.
        preprocessing: the deterministic transform of evaluation.
        path: a file to keep the features in.

    Raises:
        tf.errors.InvalidArgumentError: an image cannot be decoded.
        ValueError: the model has auxiliary classifiers, one of whose layers would be taken for its last.
    """
    if len(model.outputs) != 1:
        raise ValueError(f"{model.name} has {len(model.outputs)} outputs: expected the main classifier alone")
    network = penultimate(model)
    forward = inference_function(network)
    features = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=(total, network.output.shape[-1]))

    def prepared(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        example = examples.parse_example(serialized)
        return preprocess(example["encoded"], preprocessing), example["label"], example["filename"]

    filenames: list[str] = []
    splits: list[str] = []
    labels = np.empty(total, np.int64)
    try:
        with progress.bar(total=total, description="Auditing labels", unit="img") as bar:
            for split, paths in shards.items():
                if not paths:
                    continue
                records = examples.read_examples(list(paths)).map(prepared, num_parallel_calls=tf.data.AUTOTUNE)
                for images, classes, names in records.batch(_BATCH).prefetch(2):
                    part = slice(len(filenames), len(filenames) + len(images))
                    features[part], labels[part] = forward(images), classes
                    filenames += [name.decode("utf-8", "surrogateescape") for name in names.numpy()]
                    splits += [split] * len(images)
                    bar.update(len(images))
        yield Embeddings(features, tuple(filenames), tuple(splits), labels)
    finally:
        path.unlink()
