"""ExampleGen: a data set becomes example shards, split and checked."""

from collections.abc import Sequence

from kcnn.data import drivers
from kcnn.data.datasets import Dataset
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import exclusions
from kcnn.data.ingestion.ingest import ingest
from kcnn.errors import UserError
from pipelines.artifacts import Examples
from pipelines.engine.component import Output, component


@component(ignored=("offline", "beam"))
def example_gen(
    dataset: str,
    data_dir: str | None,
    offline: bool,
    fingerprint: str,
    labelled: bool,
    examples: Output[Examples],
    exclude: Sequence[str] = (),
    exclude_digest: str = "",
    beam: list[str] | None = None,
) -> None:
    """Reads `dataset`, its labels only if `labelled`, without what the lists `exclude` leave out; `fingerprint` and
    `exclude_digest` tell the present data and lists from others of the same names. `beam` is as `drivers.open_driver`
    takes it.
    """

    def opened() -> Dataset:
        source = open_dataset(dataset, data_dir=data_dir, offline=offline, labelled=labelled)
        if exclusions.digest_exclusions(exclude) != exclude_digest:
            raise UserError(f"--exclude {', '.join(exclude)}: changed since the run began; run again")
        source = exclusions.exclude_images(source, exclude)
        if source.fingerprint != fingerprint:
            raise UserError(f"--dataset {dataset}: it has changed since the run began; run again")
        return source

    with drivers.open_driver(beam, examples.path) as driver:
        summary = ingest(opened(), examples.path, driver)
    opened()  # nor has it changed while it was read
    examples.write_summary(summary)
    for warning in summary.warnings:
        print(f"Warning: {warning}")
