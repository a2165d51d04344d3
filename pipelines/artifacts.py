"""What components hand to one another: folders whose layout the artifact's class documents and owns."""

import csv
import dataclasses
import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from kcnn.config import Config
from kcnn.data import examples
from kcnn.data import schema as schemas
from kcnn.data.ingest import Summary
from kcnn.data.scan import Finding, Scan
from kcnn.data.transform import Preprocessing
from kcnn.training.trainer import Data
from pipelines.component import Artifact


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

    def properties(self) -> dict[str, Any]:
        """Images a split, labels, exclusions with their reasons."""
        summary = self.summary()
        counts = {split: summary.total(split) for split in summary.counts}
        return {"images": counts, "labels": len(summary.labels), "excluded": summary.excluded}

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


class ExampleStatistics(Artifact):
    """Statistics of each split.

    <path>/Split-<train|val|test>/FeatureStats.pb   tensorflow.metadata.v0.DatasetFeatureStatisticsList, binary
    """

    def write(self, split: str, statistics: statistics_pb2.DatasetFeatureStatisticsList) -> None:
        """Keeps those of a split."""
        _write_proto(self.path / f"Split-{split}" / "FeatureStats.pb", statistics)

    def read(self, split: str) -> statistics_pb2.DatasetFeatureStatistics:
        """Those of a split."""
        content = (self.path / f"Split-{split}" / "FeatureStats.pb").read_bytes()
        return statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets[0]

    def properties(self) -> dict[str, Any]:
        """Examples a split."""
        return {"examples": {split: self.read(split).num_examples for split in examples.SPLITS}}


class Schema(Artifact):
    """What examples should be like.

    <path>/schema.pbtxt   tensorflow.metadata.v0.Schema, text
    """

    def write(self, schema: schema_pb2.Schema) -> None:
        """Keeps it."""
        schemas.write(schema, self.path / "schema.pbtxt")

    def read(self) -> schema_pb2.Schema:
        """What schema.pbtxt holds."""
        return schemas.read(self.path / "schema.pbtxt")


class ExampleAnomalies(Artifact):
    """What in each split departs from the schema, or from the training split.

    <path>/Split-<train|val|test>/SchemaDiff.pb   tensorflow.metadata.v0.Anomalies, binary
    """

    def write(self, split: str, anomalies: anomalies_pb2.Anomalies) -> None:
        """Keeps those of a split."""
        _write_proto(self.path / f"Split-{split}" / "SchemaDiff.pb", anomalies)

    def read(self, split: str) -> anomalies_pb2.Anomalies:
        """Those of a split."""
        return anomalies_pb2.Anomalies.FromString((self.path / f"Split-{split}" / "SchemaDiff.pb").read_bytes())

    def lines(self) -> list[str]:
        """One line for each anomaly, split by split."""
        return [line for split in examples.SPLITS for line in schemas.lines(self.read(split), split)]

    def properties(self) -> dict[str, Any]:
        """The anomalies, a line each."""
        return {"anomalies": self.lines()}


class Findings(Artifact):
    """What a scan of the images found. Nothing of it is applied to anything.

    <path>/findings.jsonl   a finding a line: finding, filenames, splits, labels, value, threshold, how
    <path>/exclusions.csv   filename, finding, exclude: a list to edit, the last column empty, of images in the examples
    <path>/scan.json        images: how many were looked at; usual: finding → images, where most show it
    """

    def write(self, scan: Scan) -> None:
        """Keeps them."""
        lines = [json.dumps(dataclasses.asdict(finding)) + "\n" for finding in scan.findings]
        (self.path / "findings.jsonl").write_text("".join(lines))
        # File names may hold bytes that are no UTF-8; they come out as they came in.
        with self.exclusions.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "finding", "exclude"])
            images = [finding for finding in scan.findings if finding.splits]
            writer.writerows((name, finding.finding, "") for finding in images for name in finding.filenames)
        facts = {"images": scan.images, "usual": scan.usual}
        (self.path / "scan.json").write_text(json.dumps(facts, indent=2) + "\n")

    def read(self) -> Scan:
        """Them."""
        facts = json.loads((self.path / "scan.json").read_text())
        rows = map(json.loads, (self.path / "findings.jsonl").read_text().splitlines())
        lists = ("filenames", "splits", "labels")
        findings = (Finding(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in rows)
        return Scan(findings=tuple(findings), **facts)

    @property
    def exclusions(self) -> Path:
        """The list to edit."""
        return self.path / "exclusions.csv"

    def properties(self) -> dict[str, Any]:
        """Images, and how often each finding was made."""
        scan = self.read()
        return {"images": scan.images, "findings": Counter(finding.finding for finding in scan.findings)}


class DataPage(Artifact):
    """What a data set is like, for people.

    <path>/report.html   one page with its pictures
    """

    @property
    def page(self) -> Path:
        """The file."""
        return self.path / "report.html"

    def write(self, html: str) -> None:
        """Keeps it."""
        self.page.write_text(html, encoding="utf-8")


def _write_proto(path: Path, message: Message) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(message.SerializeToString(deterministic=True))


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

    def properties(self) -> dict[str, Any]:
        """What it started from, how long it trained, and the checksum of its weights."""
        training = self.training()
        facts = {name: training[name] for name in ("weights", "weights_loaded", "seconds", "best")}
        return {**facts, "epochs": len(training["history"]), "sha256": _sha256(self.path / "weights.safetensors")}


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

    def properties(self) -> dict[str, Any]:
        """What it learned, how well, and the checksum of the weights."""
        provenance = self.provenance()
        return {name: provenance[name] for name in ("objective", "classes", "validation_accuracy", "hours", "sha256")}


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

    def properties(self) -> dict[str, Any]:
        """The metrics, but for lists."""
        return {name: value for name, value in self.metrics().items() if not isinstance(value, list)}


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

    def properties(self) -> dict[str, Any]:
        """The published folder, by itself and from here, which still finds it when both have moved together."""
        version = self.version().absolute()
        return {"version": str(version), "from_here": os.path.relpath(version, self.path.absolute())}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
