"""Parts of a data set: its sources are dealt to files by a hash of their names, so that each part is like the whole."""

import dataclasses
import functools
import hashlib
import heapq
import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kcnn.data.datasets import Dataset, ImageSource
from kcnn.data.drivers import replacing
from kcnn.data.ingestion.tally import ReadableImage
from kcnn.errors import UserError
from kcnn.progress import bar

_DEALT_BYTES = 32 * 2**20  # sources that wait in memory for their file


@dataclasses.dataclass(frozen=True)
class PartFiles:
    """The files that the steps of an ingestion leave for one another, streams of pickles.

    <folder>/00012.sources    the ImageSources of a part, in the data set's order
    <folder>/00012.examined   the ExaminedImage of each
    <folder>/00012.readable   the ReadableImages of the part, sorted
    <folder>/decisions        what `write_split_shard` needs to know: one Decisions

    Attributes:
        folder: the folder of the files.
        parts: the number of parts.
    """

    folder: Path
    parts: int

    def sources(self, part: int) -> Path:
        """Return the path of a part's sources."""
        return self.folder / f"{part:05d}.sources"

    def examined(self, part: int) -> Path:
        """Return the path of a part's examined images."""
        return self.folder / f"{part:05d}.examined"

    def readable(self, part: int) -> Path:
        """Return the path of a part's readable images."""
        return self.folder / f"{part:05d}.readable"

    @property
    def decisions(self) -> Path:
        """The path of the decisions."""
        return self.folder / "decisions"


def deal_sources(dataset: Dataset, files: PartFiles) -> None:
    """Write the sources of each part, in one pass over the data set.

    Raises:
        UserError: the data set yields more or fewer sources than it has counted.
    """
    waiting = [bytearray() for _ in range(files.parts)]
    held = count = 0

    def empty() -> None:
        for part, buffer in enumerate(waiting):
            with files.sources(part).open("ab") as file:
                file.write(buffer)
            buffer.clear()

    for source in bar(dataset.sources(), total=dataset.count, description="Listing images", unit="img"):
        pickled = _pickle_source(source)
        waiting[hash_range(source.filename, files.parts)] += pickled
        held, count = held + len(pickled), count + 1
        if held > _DEALT_BYTES:
            empty()
            held = 0
    empty()
    if count != dataset.count:
        raise UserError(
            f"--dataset {dataset.name}: changed while it was read, from {dataset.count} to {count} images; run again"
        )


def merge_readable(files: PartFiles) -> Iterator[ReadableImage]:
    """Yield the readable images of all parts, sorted; memory holds one of each part."""
    return heapq.merge(*(load_items(files.readable(part)) for part in range(files.parts)))


def hash_range(filename: str, ranges: int) -> int:
    """Return the range, from 0 to `ranges` - 1, of a filename's 64-bit hash: a fair sample of any data set."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(filename), digest_size=8).digest(), "big") * ranges >> 64


def store_items(path: Path, items: Iterable[Any]) -> None:
    """Write items to a file, from which `load_items` reads them one by one."""
    with replacing(path) as partial, partial.open("wb") as file:
        for item in items:
            pickle.dump(item, file, pickle.HIGHEST_PROTOCOL)


def load_items(path: Path) -> Iterator[Any]:
    """Yield the items of a file; memory holds one."""
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


def _pickle_source(source: ImageSource) -> bytes:
    """Pickle a source; where its function cannot be pickled, with the image's bytes in place of the function."""
    try:
        return pickle.dumps(source, pickle.HIGHEST_PROTOCOL)
    except (pickle.PicklingError, AttributeError, TypeError):  # a function without a name that others can import
        pass
    try:
        read = functools.partial(bytes, source.read())
    except OSError as error:
        read = functools.partial(_fail, error)
    return pickle.dumps(dataclasses.replace(source, read=read), pickle.HIGHEST_PROTOCOL)


def _fail(error: OSError) -> bytes:
    raise error
