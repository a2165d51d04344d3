"""Writing of the shards: the images of a shard, a range of the hashes of their filenames, are read once more."""

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kcnn.data.datasets import ImageSource
from kcnn.data.drivers import advance_progress
from kcnn.data.examples import Example, shard_path, write_shard
from kcnn.data.ingestion.examine import ExaminedImage
from kcnn.data.ingestion.parts import PartFiles, hash_range, load_items
from kcnn.data.ingestion.splits import Splits
from kcnn.data.ingestion.threads import map_in_threads
from kcnn.errors import UserError
from kcnn.terminal import one_line


@dataclasses.dataclass(frozen=True)
class Decisions:
    """The decisions that follow from all parts together.

    Attributes:
        dataset: the data set's name, for messages.
        labels: the class names in the order of the class indices.
        splits: how the images are split.
    """

    dataset: str
    labels: tuple[str, ...]
    splits: Splits


@dataclasses.dataclass(frozen=True)
class Shard:
    """Shard `number`, from 0, of the `count` shards of a split."""

    split: str
    number: int
    count: int


class _Chosen(NamedTuple):
    source: ImageSource
    image: ExaminedImage


def write_split_shard(files: PartFiles, directory: Path, shard: Shard) -> None:
    """Write one shard of a split below `directory`.

    Raises:
        UserError: an image has changed since it was examined.
    """
    decisions: Decisions = next(load_items(files.decisions))
    index = {label: number for number, label in enumerate(decisions.labels)}

    def example(chosen: _Chosen) -> Example:
        source, image = chosen
        try:
            encoded = source.read()
        except OSError:
            encoded = b""
        if hashlib.sha256(encoded).hexdigest() != image.sha256:
            name = one_line(source.filename)
            raise UserError(f"--dataset {decisions.dataset}: {name} changed while it was read; run again")
        return Example(
            encoded=encoded,
            filename=source.filename,
            label=index[str(source.label)],
            text=str(source.label),
            format=image.format,
            height=image.height,
            width=image.width,
            sha256=image.sha256,
            columns=source.columns,
        )

    def examples() -> Iterator[Example]:
        for one in map_in_threads(example, _choose(files, decisions.splits, shard)):
            yield one
            advance_progress()

    path = shard_path(directory, shard.split, shard.number, shard.count)
    write_shard(path, examples(), files.folder)


def _choose(files: PartFiles, splits: Splits, shard: Shard) -> Iterator[_Chosen]:
    """Yield the readable images of a shard, from the parts whose range of hashes overlaps the shard's."""
    first = shard.number * files.parts // shard.count
    last = -(-(shard.number + 1) * files.parts // shard.count)
    for part in range(first, last):
        for source, image in zip(load_items(files.sources(part)), load_items(files.examined(part)), strict=True):
            if (
                image.reason is None
                and splits.split_of(image.sha256, source.split) == shard.split
                and hash_range(source.filename, shard.count) == shard.number
            ):
                yield _Chosen(source, image)
