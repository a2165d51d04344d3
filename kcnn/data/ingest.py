"""From a data set to example shards: read, check, split, write. Two passes, in both of which memory holds a few images.

The first pass reads every image, decodes it with the very decoder that training and serving use, and keeps a row of
facts. What cannot be decoded is excluded by name and with its reason, never replaced. The second pass writes the rest
to shards.
"""

import collections
import dataclasses
import hashlib
import io
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from kcnn.data import examples, splits
from kcnn.data.datasets import Dataset, Source
from kcnn.data.decode import decode_image
from kcnn.errors import UserError
from kcnn.progress import bar

warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # large photos are no attack

FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "GIF": "GIF", "BMP": "BMP", "DIB": "BMP", "WEBP": "WEBP"}
_WINDOW = 32  # images read ahead of the one in hand

A = TypeVar("A")
B = TypeVar("B")


@dataclasses.dataclass(frozen=True)
class Row:
    """The facts of one image; `reason` is why it is excluded, or None."""

    filename: str
    label: str | None
    split: str | None
    sha256: str = ""
    format: str = ""
    height: int = 0
    width: int = 0
    bytes: int = 0
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of a data set.

    Attributes:
        labels: class names in the order of the model's outputs.
        counts: split → class → images.
        excluded: filename → reason.
        warnings: what the user should know before trusting the numbers, a line each.
        mean_bytes: of an encoded training image.
        median_side: of the shorter sides of the training images, in pixels.
        mirror: whether a mirrored image keeps its class.
    """

    labels: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    excluded: dict[str, str]
    warnings: tuple[str, ...]
    mean_bytes: int
    median_side: int
    mirror: bool

    def total(self, split: str) -> int:
        """The number of images in a split."""
        return sum(self.counts[split].values())


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def _pixels(encoded: tf.Tensor) -> tf.Tensor:
    return tf.size(decode_image(encoded))


def examine(source: Source) -> Row:
    """Reads and decodes one image; what is wrong with it is in the row, nothing is raised."""
    row = Row(source.filename, source.label, source.split)

    def exclude(reason: str) -> Row:
        return dataclasses.replace(row, reason=reason)

    if source.label is None:
        return exclude(source.reason)
    try:
        encoded = source.read()
    except OSError as error:
        return exclude(f"cannot be read: {error.strerror or error}")
    if not encoded:
        return exclude("empty file")
    row = dataclasses.replace(row, sha256=hashlib.sha256(encoded).hexdigest(), bytes=len(encoded))
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            found, (width, height) = str(image.format), image.size
            if found not in FORMATS:
                return exclude(f"{found} is not a supported format ({', '.join(sorted(set(FORMATS.values())))})")
        _pixels(encoded)  # Pillow reads headers alone: TensorFlow notices more of what is missing
    except UnidentifiedImageError:
        return exclude("not an image")
    except Image.DecompressionBombError:
        return exclude("too many pixels")
    except (OSError, SyntaxError, ValueError, tf.errors.InvalidArgumentError):
        # What Pillow raises for damaged headers, SyntaxError among it, and TensorFlow for all else.
        return exclude("corrupt or truncated")
    return dataclasses.replace(row, format=FORMATS[found], height=height, width=width)


def _parallel(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map` on all cores, in order, at most `_WINDOW` items ahead of the consumer."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        iterator = iter(items)
        pending = collections.deque(pool.submit(function, item) for item in itertools.islice(iterator, _WINDOW))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in itertools.islice(iterator, 1))


def _summarize(dataset: Dataset, rows: list[Row], assigned: dict[str, str]) -> Summary:
    kept = [row for row in rows if row.reason is None]
    excluded = {row.filename: row.reason for row in rows if row.reason is not None}
    readable = {row.label for row in kept}
    labels = tuple(label for label in dataset.labels if label in readable)
    counts = {split: dict.fromkeys(labels, 0) for split in examples.SPLITS}
    for row in kept:
        counts[assigned[row.filename]][str(row.label)] += 1
    gone = [label for label in dataset.labels if label not in labels]
    complaint = f"--dataset {dataset.name}: "
    if not kept:
        raise UserError(f"{complaint}none of its {len(rows)} files is an image that can be read" + _examples(excluded))
    if dataset.labelled and len(labels) < 2:
        raise UserError(
            f"{complaint}only class {labels[0]!r} has readable images; a classifier needs two or more"
            + _examples(excluded)
        )
    for label in labels:
        if not counts["train"][label]:
            count = sum(counts[split][label] for split in examples.SPLITS)
            raise UserError(
                f"{complaint}class {label!r} has {count} readable images and none of them in train; add some"
            )
    if not sum(counts["test"].values()):
        raise UserError(
            f"{complaint}{len(kept)} images are too few to hold out a test split; add images or a test folder"
        )

    splits_of: dict[str, set[str]] = collections.defaultdict(set)
    labels_of: dict[str, set[str]] = collections.defaultdict(set)
    for row in kept:
        splits_of[row.sha256].add(assigned[row.filename])
        labels_of[row.sha256].add(str(row.label))
    straddling = sum("train" in places and len(places) > 1 for places in splits_of.values())
    ambiguous = sum(len(names) > 1 for names in labels_of.values())
    untested = [label for label in labels if not counts["test"][label]]
    remarks = [
        *([f"{len(excluded)} file{'s' * (len(excluded) > 1)} excluded" + _examples(excluded)] if excluded else []),
        *([f"classes without a readable image, left out: {', '.join(gone)}"] if gone else []),
        *([f"classes without a test image (add images to measure them): {', '.join(untested)}"] if untested else []),
        *(
            [f"{straddling} images are in train and, byte for byte, in val or test too: the figures will flatter"]
            if straddling
            else []
        ),
        *([f"{ambiguous} images appear under two or more labels"] if ambiguous else []),
    ]
    train = [row for row in kept if assigned[row.filename] == "train"]
    return Summary(
        labels=labels,
        counts=counts,
        excluded=excluded,
        warnings=tuple(remarks),
        mean_bytes=max(1, sum(row.bytes for row in train) // len(train)),
        median_side=sorted(min(row.height, row.width) for row in train)[len(train) // 2],
        mirror=dataset.mirror,
    )


def _examples(excluded: dict[str, str]) -> str:
    shown = [f"{name} ({reason})" for name, reason in itertools.islice(excluded.items(), 3)]
    more = len(excluded) - len(shown)
    return ": " + ", ".join(shown) + (f" and {more} more" if more else "") if shown else ""


def ingest(dataset: Dataset, directory: Path) -> Summary:
    """Writes the shards of `dataset` to `directory`.

    Raises:
        UserError: nothing readable, fewer than two classes, a class without a training image, or nothing to test on.
    """
    scanned = bar(_parallel(examine, dataset.sources()), total=dataset.count, description="Checking images", unit="img")
    rows = list(scanned)
    if len({row.filename for row in rows}) < len(rows):
        name, times = collections.Counter(row.filename for row in rows).most_common(1)[0]
        raise UserError(f"--dataset {dataset.name}: {name} is listed {times} times; expected each image once")
    kept = [row for row in rows if row.reason is None]
    places = splits.assign([(row.sha256, str(row.label), row.split) for row in kept])
    assigned = {row.filename: place for row, place in zip(kept, places, strict=True)}
    summary = _summarize(dataset, rows, assigned)

    def load(pair: tuple[Source, Row]) -> tuple[str, examples.Example] | None:
        source, row = pair
        if row.reason is not None:
            return None
        encoded = source.read()
        if hashlib.sha256(encoded).hexdigest() != row.sha256:
            raise UserError(f"--dataset {dataset.name}: {row.filename} changed while it was read; run again")
        text = str(row.label)
        example = examples.Example(
            encoded, row.filename, summary.labels.index(text), text, row.format, row.height, row.width, row.sha256
        )
        return assigned[row.filename], example

    total_bytes = dict.fromkeys(examples.SPLITS, 0)
    for row in kept:
        total_bytes[assigned[row.filename]] += row.bytes
    loaded = _parallel(load, zip(dataset.sources(), rows, strict=True))
    written = bar((item for item in loaded if item), total=len(kept), description="Writing examples", unit="img")
    examples.write(directory, written, total_bytes)
    return summary
