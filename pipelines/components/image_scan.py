"""ImageScan: what hurts classifiers, image by image. It changes and excludes nothing."""

from kcnn.data.examples import SPLITS
from kcnn.data.scan import scan
from pipelines.artifacts import Examples, Findings
from pipelines.component import Output, component


@component
def image_scan(examples: Examples, findings: Output[Findings]) -> None:
    """Looks at every image once."""
    summary = examples.summary()
    shards = {split: examples.shards(split) for split in SPLITS}
    findings.write(scan(shards, sum(map(summary.total, SPLITS)), summary.excluded))
