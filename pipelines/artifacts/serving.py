"""What Exporter makes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kcnn.json_files import read_json
from pipelines.engine.component import Artifact


class Model(Artifact):
    """What is served.

    <path>/Format-Serving/   the SavedModel, and in its assets.extra the other formats
    <path>/export.json       what `kcnn.export_classifier` says of it: calibration, precision, checksums
    """

    head = "metrics"
    shown = ("optimize_for", "precision", "temperature")

    @property
    def serving(self) -> Path:
        """The SavedModel's folder."""
        return self.path / "Format-Serving"

    def write(self, exported: Mapping[str, Any]) -> None:
        """Write what the export says of itself."""
        text = json.dumps(exported, indent=2, ensure_ascii=False, allow_nan=False)
        (self.path / "export.json").write_text(text + "\n", encoding="utf-8")

    def exported(self) -> dict[str, Any]:
        """Read export.json."""
        return read_json(self.path / "export.json")

    def properties(self) -> dict[str, Any]:
        """Return the temperature, how the export computes, and the checksum of the weights."""
        exported = self.exported()
        return {**exported["calibration"], **exported["export"], "weights_sha256": exported["checksums"]["weights"]}
