"""What ExampleGen makes."""

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from kcnn.json_files import read_json
from pipelines.engine.component import Artifact

if TYPE_CHECKING:
    from kcnn.data.ingestion.summary import Summary


class Examples(Artifact):
    """Labelled images.

    <path>/Split-<train|val|test>/data_tfrecord-00000-of-00001.gz   tf.Example records
    <path>/summary.json                                             labels, counts, exclusions
    """

    head = "data"
    shown = ("images", "labels", "excluded")

    def shards(self, split: str) -> list[str]:
        """Return the shard files of a split."""
        from kcnn.data.examples import shard_paths

        return shard_paths(self.path, split)

    def write_summary(self, summary: "Summary") -> None:
        """Write what became of the data set."""
        text = json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False)
        # Of file names, bytes that are no UTF-8 become JSON's own escapes.
        (self.path / "summary.json").write_text(text, encoding="utf-8", errors="backslashreplace")

    def summary(self) -> "Summary":
        """Read what became of the data set."""
        from kcnn.data.ingestion.summary import Summary

        fields = read_json(self.path / "summary.json")
        return Summary(**{**fields, "labels": tuple(fields["labels"]), "warnings": tuple(fields["warnings"])})

    def properties(self) -> dict[str, Any]:
        """Return images a split, labels, exclusions with their reasons."""
        summary = self.summary()
        counts = {split: summary.total(split) for split in summary.counts}
        return {"images": counts, "labels": len(summary.labels), "excluded": summary.excluded}
