"""StatisticsGen: the images of each split in numbers."""

from kcnn.data import drivers
from kcnn.data.records import SPLITS
from kcnn.data.validation.statistics import compute_statistics
from kcnn.data.validation.statistics_proto import statistics_to_proto
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.validation import ExampleStatistics
from pipelines.engine.component import Output, component


@component(ignored=("beam",))
def statistics_gen(examples: Examples, statistics: Output[ExampleStatistics], beam: list[str] | None = None) -> None:
    """Look at every image once; `beam` is as `drivers.open_driver` takes it."""
    summary = examples.summary()
    shards = {split: examples.shards(split) for split in SPLITS}
    with drivers.open_driver(beam, statistics.path) as driver:
        found = compute_statistics(shards, sum(map(summary.total, SPLITS)), driver)
    for split, part in found.items():
        statistics.write(split, statistics_to_proto(part, split))
