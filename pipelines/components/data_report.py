"""DataReport: what the steps before found, on a page to look at."""

from kcnn.data.records import SPLITS
from kcnn.data.scan import page as pages
from kcnn.data.scan.scan import remarks
from pipelines.artifacts import DataPage, ExampleAnomalies, Examples, ExampleStatistics, Findings
from pipelines.engine.component import Output, component


@component
def data_report(
    dataset: str,
    examples: Examples,
    statistics: ExampleStatistics,
    anomalies: ExampleAnomalies,
    findings: Findings,
    report: Output[DataPage],
) -> None:
    """Writes the page, with the data set's name for a heading, and says the worst of it in a line each."""
    scan = findings.read()
    pictures = pages.thumbnails([path for split in SPLITS for path in examples.shards(split)], pages.shown(scan))
    parts = {split: statistics.read(split) for split in SPLITS}
    report.write(pages.page(dataset, examples.summary(), parts, anomalies.lines(), scan, pictures))
    for line in remarks(scan, report.home / report.page.name):
        print(f"Warning: {line}")
