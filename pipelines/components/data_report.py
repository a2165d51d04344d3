"""DataReport: what the steps before found, on a page to look at."""

from kcnn.data.records import SPLITS
from kcnn.data.scan.findings import scan_warnings
from kcnn.data.scan.page import pictured_files, render_data_page
from kcnn.data.scan.thumbnails import make_thumbnails
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
    pictures = make_thumbnails([path for split in SPLITS for path in examples.shards(split)], pictured_files(scan))
    parts = {split: statistics.read(split) for split in SPLITS}
    report.write(render_data_page(dataset, examples.summary(), parts, anomalies.lines(), scan, pictures))
    for line in scan_warnings(scan, report.home / report.page.name):
        print(f"Warning: {line}")
