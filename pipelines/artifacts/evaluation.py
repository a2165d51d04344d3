"""What Evaluator makes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kcnn.json_files import read_json
from pipelines.engine.component import Artifact

if TYPE_CHECKING:
    from kcnn.evaluation.slices import Attribute


class ModelEvaluation(Artifact):
    """The exported model on the test split.

    <path>/report/             metrics.json, per_class.csv, slices.csv, confusion_matrix.csv and .png, predictions.csv,
                               as `kcnn.evaluation.results.write_evaluation` writes them
    <path>/probabilities.npy   float32 [examples, classes], in the order of the records
    <path>/labels.npy          int64 [examples], the true classes
    <path>/slices.npy          int64 [attributes, examples], the index of each example's value among the attribute's
    <path>/slices.json         class_names, and attributes with name and values
    """

    head = "metrics"
    shown = ("top1", "macro_f1", "examples")

    @property
    def report(self) -> Path:
        """The folder for people."""
        return self.path / "report"

    def write_answers(
        self,
        probabilities: np.ndarray,
        labels: np.ndarray,
        class_names: Sequence[str],
        attributes: Sequence["Attribute"],
    ) -> None:
        """Write the answers themselves, and what judges them.

        Args:
            probabilities: float32 [examples, classes], the answers.
            labels: int64 [examples], the true classes.
            class_names: their names.
            attributes: what divides the examples into slices.
        """
        np.save(self.path / "probabilities.npy", probabilities)
        np.save(self.path / "labels.npy", labels)
        codes = np.array([attribute.codes for attribute in attributes], np.int64)
        np.save(self.path / "slices.npy", codes.reshape(-1, len(labels)))
        slices = {
            "class_names": list(class_names),
            "attributes": [{"name": attribute.name, "values": list(attribute.values)} for attribute in attributes],
        }
        (self.path / "slices.json").write_text(json.dumps(slices, indent=2) + "\n", encoding="utf-8")

    def probabilities(self) -> np.ndarray:
        """Read the answers, float32 [examples, classes], mapped from the disk."""
        return np.load(self.path / "probabilities.npy", mmap_mode="r", allow_pickle=False)

    def labels(self) -> np.ndarray:
        """Read the true classes, int64 [examples]."""
        return np.load(self.path / "labels.npy", allow_pickle=False)

    def class_names(self) -> list[str]:
        """Read the names of the classes."""
        return read_json(self.path / "slices.json")["class_names"]

    def correct(self) -> np.ndarray:
        """Return whether the most probable class is the true one, bool [examples]."""
        return self.probabilities().argmax(axis=1) == self.labels()

    def attributes(self) -> list["Attribute"]:
        """Read what divides the examples into slices."""
        from kcnn.evaluation.slices import Attribute

        rows = read_json(self.path / "slices.json")["attributes"]
        codes = np.load(self.path / "slices.npy", allow_pickle=False)
        return [Attribute(row["name"], tuple(row["values"]), code) for row, code in zip(rows, codes, strict=True)]

    def metrics(self) -> dict[str, Any]:
        """Read metrics.json."""
        return read_json(self.report / "metrics.json")

    def properties(self) -> dict[str, Any]:
        """Return the metrics, but for lists."""
        return {name: value for name, value in self.metrics().items() if not isinstance(value, list)}


class BaselineAnswers(Artifact):
    """The last version that was pushed, on the same test split.

    <path>/baseline.json   digest: of the version's files, "" where nothing was pushed; reason: why it is not compared,
                           null where it is
    <path>/correct.npy     bool [examples], whether its answers are the true classes; only where it is compared
    """

    def write(self, digest: str, correct: np.ndarray | None, reason: str | None) -> None:
        """Write what the baseline answered.

        Args:
            digest: of the version's files, "" where nothing was pushed.
            correct: bool [examples]; None where it cannot be compared.
            reason: why it cannot; None where it can.
        """
        text = json.dumps({"digest": digest, "reason": reason}, indent=2, ensure_ascii=False)
        (self.path / "baseline.json").write_text(text + "\n", encoding="utf-8")
        if correct is not None:
            np.save(self.path / "correct.npy", correct)

    def digest(self) -> str:
        """Read the digest of the version's files, "" where nothing was pushed."""
        return self._content()["digest"]

    def reason(self) -> str | None:
        """Read why the baseline cannot be compared; None where it can."""
        return self._content()["reason"]

    def correct(self) -> np.ndarray | None:
        """Read whether its answers are the true classes, bool [examples]; None where it cannot be compared."""
        path = self.path / "correct.npy"
        return np.load(path, allow_pickle=False) if path.exists() else None

    def _content(self) -> dict[str, Any]:
        return read_json(self.path / "baseline.json")
