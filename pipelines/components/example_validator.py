"""ExampleValidator: what in the splits departs from the schema or the training split. It warns and never stops."""

from kcnn.data.examples import SPLITS
from kcnn.data.schema import validate
from pipelines.artifacts import ExampleAnomalies, ExampleStatistics, Schema
from pipelines.component import Output, component


@component
def example_validator(statistics: ExampleStatistics, schema: Schema, anomalies: Output[ExampleAnomalies]) -> None:
    """Validates every split, and says what it finds in a line each."""
    expected, train = schema.read(), statistics.read("train")
    for split in SPLITS:
        found = validate(statistics.read(split), expected, train=None if split == "train" else train)
        anomalies.write(split, found)
    for line in anomalies.lines():
        print(f"Warning: {line}")
