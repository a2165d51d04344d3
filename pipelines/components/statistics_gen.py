"""StatisticsGen: what the images of each split are like, in numbers."""

from kcnn.data import statistics as measures
from kcnn.data.examples import SPLITS
from pipelines.artifacts import Examples, ExampleStatistics
from pipelines.component import Output, component


@component
def statistics_gen(examples: Examples, statistics: Output[ExampleStatistics]) -> None:
    """Looks at every image once."""
    summary = examples.summary()
    found = measures.compute({split: examples.shards(split) for split in SPLITS}, sum(map(summary.total, SPLITS)))
    for split, part in found.items():
        statistics.write(split, measures.to_proto(part, split))
