"""StatisticsGen: the images of each split in numbers."""

from kcnn.data import drivers
from kcnn.data.examples import SPLITS
from kcnn.data.validation import statistics as measures
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.validation import ExampleStatistics
from pipelines.engine.component import Output, component


@component(ignored=("beam",))
def statistics_gen(examples: Examples, statistics: Output[ExampleStatistics], beam: list[str] | None = None) -> None:
    """Look at every image once; `beam` is as `drivers.opened` takes it."""
    summary = examples.summary()
    shards = {split: examples.shards(split) for split in SPLITS}
    with drivers.opened(beam, statistics.path) as driver:
        found = measures.compute(shards, sum(map(summary.total, SPLITS)), driver)
    for split, part in found.items():
        statistics.write(split, measures.to_proto(part, split))
