"""What StatisticsGen, SchemaGen and ExampleValidator make, as TensorFlow Data Validation reads it."""

from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from pipelines.engine.component import Artifact


class ExampleStatistics(Artifact):
    """Statistics of each split.

    <path>/Split-<train|val|test>/FeatureStats.pb   tensorflow.metadata.v0.DatasetFeatureStatisticsList, binary
    """

    head = "data"

    def write(self, split: str, statistics: statistics_pb2.DatasetFeatureStatisticsList) -> None:
        """Write those of a split."""
        _write_proto(self.path / f"Split-{split}" / "FeatureStats.pb", statistics)

    def read(self, split: str) -> statistics_pb2.DatasetFeatureStatistics:
        """Read those of a split."""
        content = (self.path / f"Split-{split}" / "FeatureStats.pb").read_bytes()
        return statistics_pb2.DatasetFeatureStatisticsList.FromString(content).datasets[0]

    def properties(self) -> dict[str, Any]:
        """Return examples a split."""
        from kcnn.data.records import SPLITS

        return {"examples": {split: self.read(split).num_examples for split in SPLITS}}


class Schema(Artifact):
    """What examples should be like.

    <path>/schema.pbtxt   tensorflow.metadata.v0.Schema, text
    """

    head = "data"

    def write(self, schema: schema_pb2.Schema) -> None:
        """Write schema.pbtxt."""
        from kcnn.data.validation.schema import write_schema

        write_schema(schema, self.path / "schema.pbtxt")

    def read(self) -> schema_pb2.Schema:
        """Read schema.pbtxt."""
        from kcnn.data.validation.schema import read_schema

        return read_schema(self.path / "schema.pbtxt")


class ExampleAnomalies(Artifact):
    """What in each split departs from the schema, or from the training split.

    <path>/Split-<train|val|test>/SchemaDiff.pb   tensorflow.metadata.v0.Anomalies, binary
    """

    head = "data"

    def write(self, split: str, anomalies: anomalies_pb2.Anomalies) -> None:
        """Write those of a split."""
        _write_proto(self.path / f"Split-{split}" / "SchemaDiff.pb", anomalies)

    def read(self, split: str) -> anomalies_pb2.Anomalies:
        """Read those of a split."""
        return anomalies_pb2.Anomalies.FromString((self.path / f"Split-{split}" / "SchemaDiff.pb").read_bytes())

    def lines(self) -> list[str]:
        """Return one line for each anomaly, split by split."""
        from kcnn.data.records import SPLITS
        from kcnn.data.validation.anomalies import anomaly_lines

        return [line for split in SPLITS for line in anomaly_lines(self.read(split), split)]

    def properties(self) -> dict[str, Any]:
        """Return the anomalies, a line each."""
        return {"anomalies": self.lines()}


def _write_proto(path: Path, message: Message) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(message.SerializeToString(deterministic=True))
