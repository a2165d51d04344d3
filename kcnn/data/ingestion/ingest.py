"""From a data set to example shards, in bounded memory: deal, examine, decide, write.

1. Deal (`parts`): the sources go to parts by a hash of their filenames, so that each part is like the whole.
2. Examine (`examine`): the images of a part are read and decoded as training and serving decode them.
3. Decide (`splits`, `tally`, `summary`): the readable images of all parts are merged into one sorted stream, in which
   equal files stand side by side. Splits, labels and counts follow from it.
4. Write (`write`): the images of a shard, a range of the hashes of their filenames, are read once more.

Steps 2 and 4 are functions of a task that a driver (`kcnn.data.drivers`) runs anywhere. The shards are the same, to the
byte, whatever runs them.
"""

import collections
import functools
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

from kcnn.data.datasets import Dataset
from kcnn.data.drivers import Driver, local_driver
from kcnn.data.examples import shard_count
from kcnn.data.ingestion.examine import ExaminedPart, examine_part
from kcnn.data.ingestion.parts import PartFiles, deal_sources, merge_readable, store_items
from kcnn.data.ingestion.splits import plan_splits
from kcnn.data.ingestion.summary import Summary, summarize
from kcnn.data.ingestion.tally import tally_images
from kcnn.data.ingestion.write import Decisions, Shard, write_split_shard
from kcnn.data.records import SPLITS
from kcnn.errors import UserError
from kcnn.terminal import one_line

PART = 2**16  # images of a part
_MOST_PARTS = 500  # files that the merge reads at once; a larger data set has larger parts


def ingest(dataset: Dataset, directory: Path, driver: Driver | None = None) -> Summary:
    """Write the example shards of a data set.

    Args:
        dataset: the data set.
        directory: the folder for `Split-<split>/data_tfrecord-*.gz`.
        driver: runs the tasks; a driver on this machine when None.

    Returns:
        the outcome: labels, counts, exclusions, warnings.

    Raises:
        UserError: no image is readable, or the data set changed while it was read.
    """
    directory = directory.absolute()
    parts = min(_MOST_PARTS, max(1, -(-dataset.count // PART)))
    files = PartFiles(directory / ".work", parts)
    shutil.rmtree(files.folder, ignore_errors=True)
    files.folder.mkdir(parents=True)
    try:
        if driver is not None:
            return _ingest(dataset, directory, files, driver)
        with local_driver() as here:
            return _ingest(dataset, directory, files, here)
    finally:
        shutil.rmtree(files.folder, ignore_errors=True)


def _ingest(dataset: Dataset, directory: Path, files: PartFiles, driver: Driver) -> Summary:
    deal_sources(dataset, files)
    examine = functools.partial(examine_part, files)
    examined = list(driver(examine, range(files.parts), total=dataset.count, description="Checking images"))
    _check_names(dataset, examined)
    excluded = dict(sorted(itertools.chain.from_iterable(part.excluded for part in examined)))
    given = frozenset().union(*(part.given for part in examined))
    images = merge_readable(files)
    splits = plan_splits(((image.sha256, image.label, image.given or None) for image in images), given)
    tally = tally_images(merge_readable(files), splits)
    summary = summarize(dataset, tally, excluded)
    store_items(files.decisions, [Decisions(dataset.name, summary.labels, splits)])
    for split in SPLITS:
        Path(directory, f"Split-{split}").mkdir(exist_ok=True)
    counts = {split: shard_count(tally.bytes[split]) for split in SPLITS}
    shards = [Shard(split, number, count) for split, count in counts.items() for number in range(count)]
    write = functools.partial(write_split_shard, files, directory)
    written = driver(write, shards, total=tally.images.total(), description="Writing examples")
    collections.deque(written, maxlen=0)
    return summary


def _check_names(dataset: Dataset, examined: Sequence[ExaminedPart]) -> None:
    """Raise UserError where a filename occurs more than once."""
    name, times = max((part.most for part in examined if part.most), key=lambda most: most[1], default=("", 0))
    if times > 1:
        raise UserError(f"--dataset {dataset.name}: {one_line(name)} is listed {times} times; expected each image once")
