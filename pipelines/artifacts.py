"""What components hand to one another: folders whose layout the artifact's class documents and owns."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from kcnn.config import Config
from kcnn.data import examples
from kcnn.data.ingest import Summary
from kcnn.data.transform import Preprocessing
from kcnn.training.trainer import Data


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A folder, whole as soon as it has its name: it is written under another and renamed."""

    path: Path


class Examples(Artifact):
    """Labelled images.

    <path>/Split-<train|val|test>/data_tfrecord-00000-of-00001.gz   tf.Example records
    <path>/summary.json                                             labels, counts, exclusions
    """

    def shards(self, split: str) -> list[str]:
        """The shard files of a split."""
        return examples.shard_paths(self.path, split)

    def write_summary(self, summary: Summary) -> None:
        """Keeps what became of the data set."""
        (self.path / "summary.json").write_text(json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False))

    def summary(self) -> Summary:
        """What became of the data set."""
        fields = json.loads((self.path / "summary.json").read_text())
        return Summary(**{**fields, "labels": tuple(fields["labels"]), "warnings": tuple(fields["warnings"])})

    def training_data(self, preprocessing: Preprocessing) -> Data:
        """What training reads of them."""
        summary = self.summary()
        return Data(
            train=self.shards("train"),
            val=self.shards("val"),
            train_count=summary.total("train"),
            val_count=summary.total("val"),
            classes=len(summary.labels),
            mean_bytes=summary.mean_bytes,
            preprocessing=preprocessing,
        )


class Model(Artifact):
    """A trained network and its export.

    <path>/Format-Serving/      the SavedModel
    <path>/weights.safetensors  the weights of the best epoch
    <path>/config.json          the Config that trained it
    <path>/training.json        history, where the weights came from, preprocessing, hours
    <path>/logs/                TensorBoard
    """

    @property
    def serving(self) -> Path:
        """The SavedModel's folder."""
        return self.path / "Format-Serving"

    def config(self) -> Config:
        """The Config that trained it."""
        return Config.from_json((self.path / "config.json").read_text())

    def training(self) -> dict[str, Any]:
        """What training.json holds."""
        return json.loads((self.path / "training.json").read_text())


class Backbone(Artifact):
    """What pre-training leaves: weights without a classifier.

    <path>/backbone.safetensors  float16
    <path>/backbone.json         where they come from: command, commit, data, seed, hardware, hours, checksum
    """

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.path / "backbone.safetensors"

    def provenance(self) -> dict[str, Any]:
        """What backbone.json holds."""
        return json.loads((self.path / "backbone.json").read_text())


class ModelEvaluation(Artifact):
    """The exported model on the test split.

    <path>/report/             metrics.json, per_class.csv, confusion_matrix.csv, confusion_matrix.png, predictions.csv
    <path>/probabilities.npy   float32 [examples, classes], in the order of the records
    """

    @property
    def report(self) -> Path:
        """The folder with what people read."""
        return self.path / "report"

    def write_probabilities(self, probabilities: np.ndarray) -> None:
        """Keeps the answers themselves."""
        np.save(self.path / "probabilities.npy", probabilities)

    def probabilities(self) -> np.ndarray:
        """The answers, mapped from the disk."""
        return np.load(self.path / "probabilities.npy", mmap_mode="r", allow_pickle=False)

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return json.loads((self.report / "metrics.json").read_text())


class InfraBlessing(Artifact):
    """That the export answers in a program of its own as it did in the evaluation.

    <path>/INFRA_BLESSED   agreement, as JSON
    """

    def agreement(self) -> dict[str, Any]:
        """How far the answers agreed."""
        return json.loads((self.path / "INFRA_BLESSED").read_text())


class PushedModel(Artifact):
    """Where the model was published.

    <path>/pushed.json   {"version": the folder under saved_models}
    """

    def version(self) -> Path:
        """The published folder."""
        return Path(json.loads((self.path / "pushed.json").read_text())["version"])
