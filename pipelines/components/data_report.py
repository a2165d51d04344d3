"""DataReport: a page with what the steps before it found."""

from kcnn.data.records import SPLITS
from kcnn.data.scan.findings import scan_warnings
from kcnn.data.scan.page import pictured_files, render_data_page
from kcnn.data.scan.thumbnails import make_thumbnails
from kcnn.terminal import print_lines
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.scan import DataPage, Findings
from pipelines.artifacts.validation import ExampleAnomalies, ExampleStatistics
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
    """Write the page, with the data set's name for a heading, and print the worst of it in a line each."""
    scan = findings.read()
    pictures = make_thumbnails([path for split in SPLITS for path in examples.shards(split)], pictured_files(scan))
    parts = {split: statistics.read(split) for split in SPLITS}
    report.write(render_data_page(dataset, examples.summary(), parts, anomalies.lines(), scan, pictures))
    for line in scan_warnings(scan, report.home / report.page.name):
        print_lines(f"Warning: {line}")
