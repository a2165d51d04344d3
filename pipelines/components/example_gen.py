"""ExampleGen: a data set becomes example shards, split and checked."""

from kcnn.data.datasets import open_dataset
from kcnn.data.ingest import ingest
from pipelines.artifacts import Examples
from pipelines.component import Output, component


@component(ignored=("offline",))
def example_gen(
    dataset: str, data_dir: str | None, offline: bool, fingerprint: str, labelled: bool, examples: Output[Examples]
) -> None:
    """Reads `dataset`, its labels only if `labelled`; `fingerprint` tells its present data from other data of the same
    name.
    """
    source = open_dataset(dataset, data_dir=data_dir, offline=offline, labelled=labelled)
    summary = ingest(source, examples.path)
    examples.write_summary(summary)
    for warning in summary.warnings:
        print(f"Warning: {warning}")
