"""ExampleGen: a data set becomes example shards, split and checked."""

from collections.abc import Sequence

from kcnn.data import drivers
from kcnn.data.datasets import DATASETS, Dataset
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import exclusions
from kcnn.data.ingestion.ingest import ingest
from kcnn.errors import UserError
from kcnn.terminal import print_lines
from pipelines.artifacts.examples import Examples
from pipelines.engine.component import Output, component


@component(
    ignored=("offline", "beam"),
    entries=lambda dataset, **_: {DATASETS: [dataset] if dataset in DATASETS else []},
)
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
    """Read a data set into examples.

    Args:
        dataset: as `open_dataset` takes it, like `data_dir` and `offline`.
        data_dir: see there.
        offline: see there.
        fingerprint: of the present data, which tells them from others of the same name.
        labelled: whether to read the labels.
        examples: what is made.
        exclude: lists of images to leave out.
        exclude_digest: of the present lists.
        beam: Apache Beam's options, as `drivers.open_driver` takes them; None for this machine.

    Raises:
        UserError: the data or the lists have changed since the run began.
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
        print_lines(f"Warning: {warning}")
