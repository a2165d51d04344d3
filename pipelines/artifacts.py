"""What components hand to one another: folders whose layout the artifact's class documents and owns."""

import csv
import dataclasses
import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from kcnn.checks import Check
from kcnn.config import Config
from kcnn.content import sha256
from kcnn.data import examples
from kcnn.data.ingestion.summary import Summary
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.data.input_pipeline.transform_graph import write_transform_graph
from kcnn.data.records import SPLITS
from kcnn.data.scan.findings import Finding, Scan
from kcnn.data.validation.anomalies import anomaly_lines
from kcnn.data.validation.schema import read_schema, write_schema
from kcnn.evaluation.label_errors import Audit, LabelError
from kcnn.serving.publishing import versions
from kcnn.serving.publishing.card import read_card
from kcnn.training.trainer import TrainingData
from kcnn.training.trials import best_trial, read_trials
from pipelines.engine.component import Artifact


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
        text = json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False)
        # Of file names, bytes that are no UTF-8 become JSON's own escapes.
        (self.path / "summary.json").write_text(text, encoding="utf-8", errors="backslashreplace")

    def summary(self) -> Summary:
        """What became of the data set."""
        fields = json.loads((self.path / "summary.json").read_text(encoding="utf-8"))
        return Summary(**{**fields, "labels": tuple(fields["labels"]), "warnings": tuple(fields["warnings"])})

    def properties(self) -> dict[str, Any]:
        """Images a split, labels, exclusions with their reasons."""
        summary = self.summary()
        counts = {split: summary.total(split) for split in summary.counts}
        return {"images": counts, "labels": len(summary.labels), "excluded": summary.excluded}

    def training_data(self, preprocessing: Preprocessing) -> TrainingData:
        """What training reads of them."""
        summary = self.summary()
        return TrainingData(
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
        return {"examples": {split: self.read(split).num_examples for split in SPLITS}}


class Schema(Artifact):
    """What examples should be like.

    <path>/schema.pbtxt   tensorflow.metadata.v0.Schema, text
    """

    def write(self, schema: schema_pb2.Schema) -> None:
        """Keeps it."""
        write_schema(schema, self.path / "schema.pbtxt")

    def read(self) -> schema_pb2.Schema:
        """What schema.pbtxt holds."""
        return read_schema(self.path / "schema.pbtxt")


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
        return [line for split in SPLITS for line in anomaly_lines(self.read(split), split)]

    def properties(self) -> dict[str, Any]:
        """The anomalies, a line each."""
        return {"anomalies": self.lines()}


class TransformGraph(Artifact):
    """How images are brought to the network; `tensorflow_transform.TFTransformOutput` reads it.

    <path>/preprocessing.json                   the same as data, for Trainer
    <path>/transform_fn/                        a SavedModel: the features of tf.Examples → image and label
    <path>/transformed_metadata/schema.pbtxt    what it makes
    <path>/metadata/schema.pbtxt                what it takes
    """

    derived = ("transform_fn",)

    def write(self, preprocessing: Preprocessing, labels: Sequence[str], schema: schema_pb2.Schema) -> None:
        """Keeps it, with the class names, for examples of the schema."""
        write_transform_graph(self.path, preprocessing, labels, schema)
        (self.path / "preprocessing.json").write_text(json.dumps(dataclasses.asdict(preprocessing), indent=2) + "\n")

    def preprocessing(self) -> Preprocessing:
        """What preprocessing.json holds."""
        return Preprocessing(**json.loads((self.path / "preprocessing.json").read_text()))

    def properties(self) -> dict[str, Any]:
        """What preprocessing.json holds."""
        return dataclasses.asdict(self.preprocessing())


class Findings(Artifact):
    """What a scan of the images found. Nothing of it is applied to anything.

    <path>/findings.jsonl   a finding a line: finding, filenames, splits, labels, value, threshold, how
    <path>/exclusions.csv   group (a number for the copies of one picture), split, label, value, filename, finding,
                            exclude: a list to edit, the last column empty, of images in the examples
    <path>/scan.json        images: how many were looked at; usual: finding → images, where most show it
    """

    editable = ("exclusions.csv",)

    def write(self, scan: Scan) -> None:
        """Keeps them."""
        lines = [json.dumps(dataclasses.asdict(finding)) + "\n" for finding in scan.findings]
        (self.path / "findings.jsonl").write_text("".join(lines))
        # File names may hold bytes that are no UTF-8; they come out as they came in.
        with self.exclusions.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["group", "split", "label", "value", "filename", "finding", "exclude"])
            groups = scan.groups()
            for finding in scan.findings:
                # What has no split is not in the examples.
                for split, label, name in zip(finding.splits, finding.labels, finding.filenames, strict=False):
                    row = [groups.get(finding, ""), split, label, finding.value, name, finding.finding, ""]
                    writer.writerow(row)
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


class LabelErrors(Artifact):
    """Labels that are probably wrong. Nothing of it is applied to anything.

    <path>/label_errors.csv   rank, filename, split, given, suggested, score (the given label's probability), finding
                              (label_error, or doubt where it is less sure), exclude: a list to edit, this one empty
    <path>/report.html        one page with the pictures
    <path>/audit.json         images that were judged, label_errors, doubts; what judged them, and how well
    """

    editable = ("label_errors.csv",)

    def write(self, audit: Audit, seen_by: str, errors: Sequence[LabelError], html: str) -> None:
        """Keeps them, the most doubtful first, with their page and, in words, with what saw the images."""
        columns = ("filename", "split", "given", "suggested")
        with self.table.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["rank", *columns, "score", "finding", "exclude"])
            for rank, error in enumerate(errors, start=1):
                finding = "label_error" if error.wrong else "doubt"
                writer.writerow([rank, *(getattr(error, c) for c in columns), f"{error.score:.6f}", finding, ""])
        wrong = sum(error.wrong for error in errors)
        facts = {"images": audit.images, "label_errors": wrong, "doubts": len(errors) - wrong}
        judge = {"features": seen_by, "accuracy": audit.accuracy, "accuracy_trained": audit.accuracy_trained}
        (self.path / "audit.json").write_text(json.dumps({**facts, **judge}, indent=2) + "\n")
        self.page.write_text(html, encoding="utf-8")

    @property
    def table(self) -> Path:
        """The list to edit."""
        return self.path / "label_errors.csv"

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def properties(self) -> dict[str, Any]:
        """What audit.json holds."""
        return json.loads((self.path / "audit.json").read_text())


def _write_proto(path: Path, message: Message) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(message.SerializeToString(deterministic=True))


class HyperParameters(Artifact):
    """What a search chose.

    <path>/best_hyperparameters.txt   JSON of `keras_tuner.HyperParameters.get_config()`: space and values
    """

    def write(self, config: Mapping[str, Any]) -> None:
        """Keeps them; see `kcnn.training.hyperparameters.keras_tuner_config`."""
        (self.path / "best_hyperparameters.txt").write_text(json.dumps(config))

    def values(self) -> dict[str, Any]:
        """By name, as `kcnn.training.hyperparameters` takes them."""
        return json.loads((self.path / "best_hyperparameters.txt").read_text())["values"]

    def properties(self) -> dict[str, Any]:
        """The values."""
        return self.values()


class TunerResults(Artifact):
    """The trials of a search.

    <path>/trials.csv           a trial a row: validation accuracy, how it ended, epochs, seconds, values
    <path>/trials.png           validation accuracy against each hyperparameter
    <path>/trials.jsonl         a trial a line, with the scores of every epoch
    <path>/tuner_results.json   trial_id, score and values, as TFX's Tuner writes them
    """

    @property
    def journal(self) -> Path:
        """Where trials are kept as they end."""
        return self.path / "trials.jsonl"

    def properties(self) -> dict[str, Any]:
        """How many trials there were, how they ended, the best one's score and that of the recipe's own values."""
        done = read_trials(self.journal)
        best = best_trial(done)
        return {
            "trials": len(done),
            "endings": Counter(trial.ending for trial in done),
            "best_trial": best.number,
            "best": best.score,
            "own": done[0].score,
        }


class ModelRun(Artifact):
    """A trained network, and how it was trained.

    <path>/weights.safetensors  the weights of the best epoch
    <path>/config.json          the Config that trained it
    <path>/training.json        history, where the weights came from, preprocessing, hours
    <path>/logs/                TensorBoard
    """

    @property
    def weights(self) -> Path:
        """The weights file."""
        return self.path / "weights.safetensors"

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
        return {**facts, "epochs": len(training["history"]), "sha256": sha256(self.weights)}


class Model(Artifact):
    """What is served.

    <path>/Format-Serving/   the SavedModel, and in its assets.extra the other formats
    <path>/export.json       what `kcnn.export_classifier` says of it: calibration, precision, checksums
    """

    @property
    def serving(self) -> Path:
        """The SavedModel's folder."""
        return self.path / "Format-Serving"

    def write(self, exported: Mapping[str, Any]) -> None:
        """Keeps what was said of the export."""
        text = json.dumps(exported, indent=2, ensure_ascii=False, allow_nan=False)
        (self.path / "export.json").write_text(text + "\n", encoding="utf-8")

    def exported(self) -> dict[str, Any]:
        """What export.json holds."""
        return json.loads((self.path / "export.json").read_text(encoding="utf-8"))

    def properties(self) -> dict[str, Any]:
        """The temperature, how the export computes, and the checksum of the weights."""
        exported = self.exported()
        return {**exported["calibration"], **exported["export"], "weights_sha256": exported["checksums"]["weights"]}


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

    <path>/report/             metrics.json, per_class.csv, slices.csv, confusion_matrix.csv and .png, predictions.csv
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


class _Blessing:
    """The verdict of a gate, as TFX writes it, and what it rests on.

    <path>/<PREFIX>BLESSED or <path>/<PREFIX>NOT_BLESSED   empty
    <path>/checks.json                                     facts, and every check: name, slice, figure, bound, verdict
    """

    PREFIX = ""
    path: Path

    def write(self, checks: Sequence[Check], facts: Mapping[str, Any]) -> None:
        """Blesses unless a check failed, and keeps why."""
        blessed = all(check.passed is not False for check in checks)
        content = {**facts, "blessed": blessed, "checks": list(map(dataclasses.asdict, checks))}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (self.path / "checks.json").write_text(text + "\n", encoding="utf-8")
        (self.path / f"{self.PREFIX}{'' if blessed else 'NOT_'}BLESSED").touch()

    def blessed(self) -> bool:
        """Whether no check failed."""
        return (self.path / f"{self.PREFIX}BLESSED").exists()

    def facts(self) -> dict[str, Any]:
        """What checks.json holds, but for the checks."""
        return {name: value for name, value in self._content().items() if name != "checks"}

    def checks(self) -> list[Check]:
        """All of them."""
        return [Check(**fields) for fields in self._content()["checks"]]

    def _content(self) -> dict[str, Any]:
        return json.loads((self.path / "checks.json").read_text(encoding="utf-8"))

    def properties(self) -> dict[str, Any]:
        """Blessed or not, the facts, what each check said of all images, and which slices failed or were too small."""
        checks = self.checks()
        slices = {name: [c.slice for c in checks if c.slice and c.passed is v] for name, v in VERDICTS.items()}
        return {
            **self.facts(),
            "blessed": int(self.blessed()),
            "checks": {check.name: check.said for check in checks if check.slice is None},
            "slices_passed": len(slices["passed"]),
            "slices_failed": slices["failed"],
            "slices_not_judged": slices["not judged"],
        }


VERDICTS = {"passed": True, "failed": False, "not judged": None}


class ModelBlessing(_Blessing, Artifact):
    """That the model is good enough, and not worse than the last that was pushed.

    <path>/BLESSED or <path>/NOT_BLESSED   empty
    <path>/checks.json                     baseline, warnings, and every check
    """


class InfraBlessing(_Blessing, Artifact):
    """That the export serves in a program of its own as it did in the evaluation, quickly and in little memory.

    <path>/INFRA_BLESSED or <path>/INFRA_NOT_BLESSED   empty
    <path>/checks.json                                 latency, memory, signatures, and every check
    """

    PREFIX = "INFRA_"


class PushedModel(Artifact):
    """Where the model was published, or why it was not.

    <path>/pushed.json   {"version": the folder under saved_models or null, "refused": the checks that stood against it,
                         "notes": what to know of how it was published, or how to go on; lines for people}
    <path>/begun.json    {"folder": where it is going to be published, "publication": what its card will have}
    """

    def begin(self, folder: Path) -> str:
        """Keeps that a version in `folder` is going to be published; returns what its card is to have as "publication",
        by which it is found should nobody be left to `write`.
        """
        begun = {"folder": str(folder.absolute()), "publication": uuid.uuid4().hex}
        (self.path / "begun.json").write_text(json.dumps(begun) + "\n", encoding="utf-8")
        return begun["publication"]

    def recovered(self) -> bool:
        """Whether the version that was going to be published is."""
        try:
            begun = json.loads((self.path / "begun.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # it had not begun
            return False
        for version in versions.list_versions(Path(begun["folder"])):
            card = read_card(version) or {}
            if card.get("publication") == begun["publication"]:
                self.write(version, notes=card["notes"])
                return True
        return False

    def write(self, version: Path | None, refused: Sequence[str] = (), notes: Sequence[str] = ()) -> None:
        """Keeps it."""
        content = {"version": version and str(version), "refused": list(refused), "notes": list(notes)}
        (self.path / "pushed.json").write_text(
            json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def _content(self) -> dict[str, Any]:
        return json.loads((self.path / "pushed.json").read_text(encoding="utf-8"))

    def version(self) -> Path | None:
        """The published folder; None where it was refused."""
        version = self._content()["version"]
        return version and Path(version)

    def refused(self) -> list[str]:
        """Why it was not published, a line for each check."""
        return self._content()["refused"]

    def notes(self) -> list[str]:
        """What to know of how it was published, or how to go on where it was not."""
        return self._content()["notes"]

    def properties(self) -> dict[str, Any]:
        """The published folder, by itself and from here, which still finds it when both have moved together; or why
        there is none.
        """
        version = self.version()
        if version is None:
            return {"pushed": 0, "refused": self.refused(), "notes": self.notes()}
        version = version.absolute()
        paths = {"version": str(version), "from_here": os.path.relpath(version, self.path.absolute())}
        return {"pushed": 1, **paths, "notes": self.notes()}
