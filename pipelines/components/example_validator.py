"""ExampleValidator: what in the splits departs from the schema, the training split or the data of an earlier run.

It warns and never stops.
"""

from pathlib import Path

from kcnn.data.records import SPLITS
from kcnn.data.validation.anomalies import find_anomalies
from kcnn.terminal import print_lines
from pipelines.artifacts.validation import ExampleAnomalies, ExampleStatistics, Schema
from pipelines.engine.component import Output, component


@component(ignored=("previous",))
def example_validator(
    statistics: ExampleStatistics,
    schema: Schema,
    anomalies: Output[ExampleAnomalies],
    previous: str | None = None,
    previous_fingerprint: str = "",
) -> None:
    """Validate every split, and print what it finds in a line each.

    Args:
        statistics: of the splits.
        schema: what they should be like.
        anomalies: what is made.
        previous: the folder of other ExampleStatistics, which the training split is compared with too.
        previous_fingerprint: of that folder's content.
    """
    expected, train = schema.read(), statistics.read("train")
    earlier = ExampleStatistics(Path(previous)).read("train") if previous else None
    anomalies.write("train", find_anomalies(train, expected, previous=earlier))
    for split in SPLITS[1:]:
        anomalies.write(split, find_anomalies(statistics.read(split), expected, train=train))
    for line in anomalies.lines():
        print_lines(f"Warning: {line}")
