"""ImageScan: what hurts classifiers, image by image. It changes and excludes nothing."""

from kcnn.data import drivers
from kcnn.data.records import SPLITS
from kcnn.data.scan.scan import scan_shards
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.scan import Findings
from pipelines.engine.component import Output, component


@component(ignored=("beam",))
def image_scan(examples: Examples, findings: Output[Findings], beam: list[str] | None = None) -> None:
    """Look at every image once; `beam` is as `drivers.open_driver` takes it."""
    summary = examples.summary()
    shards = {split: examples.shards(split) for split in SPLITS}
    with drivers.open_driver(beam, findings.path) as driver:
        findings.write(scan_shards(shards, sum(map(summary.total, SPLITS)), summary.excluded, driver))
