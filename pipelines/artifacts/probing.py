"""What Prober makes."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kcnn.json_files import read_json
from kcnn.spreadsheets import write_csv
from pipelines.engine.component import Artifact


class ProbeResults(Artifact):
    """What frozen backbones and their stages are worth on a data set.

    <path>/probe.json   a row for each stage of each model
    <path>/probe.csv    the same
    <path>/probe.png    accuracy against latency
    """

    head = "metrics"

    @property
    def plot(self) -> Path:
        """The picture, which `kcnn.training.probing.plot_probes` draws."""
        return self.path / "probe.png"

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows, which all have the same names, JSON-able."""
        (self.path / "probe.json").write_text(json.dumps(list(rows), indent=1))
        write_csv(self.path / "probe.csv", rows[0], (row.values() for row in rows))

    def read(self) -> list[dict[str, Any]]:
        """Read the rows."""
        return read_json(self.path / "probe.json", list)

    def properties(self) -> dict[str, Any]:
        """Return the accuracy of the best stage of each model."""
        best: dict[str, float] = {}
        for row in self.read():
            best[row["model"]] = max(row["accuracy"], best.get(row["model"], 0.0))
        return best
