"""From a data set to example shards: deal, examine, decide, write. Memory is bounded by a part of the data.

1. The sources are dealt to parts by a hash of their filenames, so that each part is like the whole.
2. `examine` reads the images of a part, decodes each with the very decoder that training and serving use, and keeps
   its facts. What cannot be decoded is excluded by name and with its reason, never replaced.
3. The parts' facts, each sorted by the images' SHA-256, are merged into one stream, equal files side by side. From it
   follow splits, labels and counts.
4. `write` reads the images of a shard, a range of the hashes of their filenames, once more.

`examine` and `write` are functions of a task that a driver (`kcnn.data.drivers`) runs anywhere; the shards are the
same, to the byte, whatever runs them.
"""

import collections
import dataclasses
import functools
import hashlib
import heapq
import io
import itertools
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf
from PIL import Image, UnidentifiedImageError

from kcnn.data import drivers, examples
from kcnn.data.datasets import UNLABELLED, Dataset, Source
from kcnn.data.ingestion import splits
from kcnn.data.input_pipeline.decode import decode_image
from kcnn.data.pictures import DAMAGE
from kcnn.errors import UserError
from kcnn.progress import bar
from kcnn.tables import one_line

FORMATS = {"JPEG": "JPEG", "MPO": "JPEG", "PNG": "PNG", "GIF": "GIF", "BMP": "BMP", "DIB": "BMP", "WEBP": "WEBP"}
CORRUPT = "corrupt or truncated"
PART = 2**16  # images of a part
_MOST_PARTS = 500  # files that the merge reads at once; of more images than these hold, the parts are larger
_THREADS = min(os.cpu_count() or 1, 8)
_WINDOW = 2 * _THREADS  # images, or batches of them, ahead of the one in hand
_BATCH, _BATCH_BYTES = 64, 2**20  # images that are decoded together, and what they may have read before that
_NAMED = 20  # classes, in a warning
_DEALT_BYTES = 32 * 2**20  # of sources that wait in memory for being dealt

A = TypeVar("A")
B = TypeVar("B")


@dataclasses.dataclass(frozen=True)
class Row:
    """The facts of one image; `reason` is why it is excluded, or None."""

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

    def flaws(self) -> list[str]:
        """Why no classifier can be trained on it, a line each."""
        images = {label: sum(counts[label] for counts in self.counts.values()) for label in self.labels}
        found = []
        if len(self.labels) == 1 and self.labels != (UNLABELLED,):
            found.append(
                f"only class {self.labels[0]!r} has readable images; two or more are needed" + _few(self.excluded)
            )
        if untrained := {label: _images(images[label]) for label in images if not self.counts["train"][label]}:
            classes = f"{len(untrained)} class" + "es" * (len(untrained) > 1)
            found.append(f"{classes} without an image to train on; add some, or leave the class out" + _few(untrained))
        if not self.total("test"):
            found.append(
                f"{_images(sum(images.values()))} are too few to hold out a test split; add some, or a test folder"
            )
        return found


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _pixels(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes images one after the other: as a batch, small ones take a fifth of the time of a call for each."""
    return tf.reduce_sum(
        tf.map_fn(lambda one: tf.size(decode_image(one)), encoded, fn_output_signature=tf.int32, parallel_iterations=1)
    )


def _decodes(encoded: Sequence[bytes]) -> bool:
    try:
        _pixels(tf.constant(encoded))
    except tf.errors.InvalidArgumentError:
        return False
    return True


def look(source: Source) -> tuple[Row, bytes]:
    """The facts of one image as far as its header tells them, and the file's bytes; what is wrong is in the row."""
    if source.label is None:
        return Row(reason=source.reason), b""
    try:
        encoded = source.read()
    except OSError as error:
        return Row(reason=f"cannot be read: {error.strerror or error}"), b""
    if not encoded:
        return Row(reason="empty file"), b""
    row = Row(sha256=hashlib.sha256(encoded).hexdigest(), bytes=len(encoded))
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            found, (width, height) = str(image.format), image.size
    except UnidentifiedImageError:
        return dataclasses.replace(row, reason="not an image"), encoded
    except Image.DecompressionBombError:
        return dataclasses.replace(row, reason="too many pixels"), encoded
    except DAMAGE:
        return dataclasses.replace(row, reason=CORRUPT), encoded
    if found not in FORMATS:
        reason = f"{found} is not a supported format ({', '.join(sorted(set(FORMATS.values())))})"
        return dataclasses.replace(row, reason=reason), encoded
    return dataclasses.replace(row, format=FORMATS[found], height=height, width=width), encoded


def examine_batch(sources: Iterable[Source]) -> list[Row]:
    """Reads and decodes images; nothing is raised for what is wrong with them."""
    rows: list[Row] = []
    waiting: dict[int, bytes] = {}  # index of the row → what is to be decoded

    def decode() -> None:
        # Pillow reads headers alone: TensorFlow notices more of what is missing.
        if waiting and not _decodes(list(waiting.values())):
            for index, encoded in waiting.items():
                if not _decodes([encoded]):
                    rows[index] = dataclasses.replace(rows[index], reason=CORRUPT)
        waiting.clear()

    for row, encoded in map(look, sources):
        if row.reason is None:
            waiting[len(rows)] = encoded
        rows.append(row)
        if sum(map(len, waiting.values())) > _BATCH_BYTES:
            decode()
    decode()
    return rows


def _parallel(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map` in threads, in order, at most `_WINDOW` items ahead of the consumer."""
    with ThreadPoolExecutor(_THREADS) as pool:
        iterator = iter(items)
        pending = collections.deque(pool.submit(function, item) for item in itertools.islice(iterator, _WINDOW))
        while pending:
            yield pending.popleft().result()
            pending.extend(pool.submit(function, item) for item in itertools.islice(iterator, 1))


def _store(path: Path, items: Iterable[Any]) -> None:
    with drivers.replacing(path) as partial, partial.open("wb") as file:
        for item in items:
            pickle.dump(item, file, pickle.HIGHEST_PROTOCOL)


def _load(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        while True:
            try:
                yield pickle.load(file)
            except EOFError:
                return


def _hash(filename: str) -> int:
    """64 bits of a filename, so that a range of them is a fair sample of any data set."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(filename), digest_size=8).digest(), "big")


@dataclasses.dataclass(frozen=True)
class Work:
    """The files between the tasks, streams of pickles.

    <folder>/00012.sources   the Sources of a part, in the data set's order
    <folder>/00012.rows      the Row of each
    <folder>/00012.facts     (sha256, label, given split, bytes, shorter side) of what can be read, sorted
    <folder>/decided         what `write` is to know: (data set's name, labels, Splits)
    """

    folder: Path
    parts: int

    def sources(self, part: int) -> Path:
        """The file."""
        return self.folder / f"{part:05d}.sources"

    def rows(self, part: int) -> Path:
        """The file."""
        return self.folder / f"{part:05d}.rows"

    def facts(self, part: int) -> Path:
        """The file."""
        return self.folder / f"{part:05d}.facts"

    @property
    def decided(self) -> Path:
        """The file."""
        return self.folder / "decided"


def deal(dataset: Dataset, work: Work) -> None:
    """Writes the sources of each part, in one pass over the data set.

    Raises:
        UserError: there are more or fewer than the data set has counted.
    """
    waiting = [bytearray() for _ in range(work.parts)]
    held = count = 0

    def empty() -> None:
        for part, buffer in enumerate(waiting):
            with work.sources(part).open("ab") as file:
                file.write(buffer)
            buffer.clear()

    for source in bar(dataset.sources(), total=dataset.count, description="Listing images", unit="img"):
        pickled = _pickled(source)
        waiting[_hash(source.filename) * work.parts >> 64] += pickled
        held, count = held + len(pickled), count + 1
        if held > _DEALT_BYTES:
            empty()
            held = 0
    empty()
    if count != dataset.count:
        raise UserError(
            f"--dataset {dataset.name}: changed while it was read, from {dataset.count} to {count} images; run again"
        )


def _pickled(source: Source) -> bytes:
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


@dataclasses.dataclass(frozen=True)
class Examined:
    """What became of a part.

    Attributes:
        given: the splits that the data set gives to images that can be read, None among them where it gives none.
        excluded: (filename, reason).
        most: the name that occurs most often, and how often; None where the part is empty.
    """

    given: frozenset[str | None]
    excluded: tuple[tuple[str, str], ...]
    most: tuple[str, int] | None


def examine(work: Work, part: int) -> Examined:
    """Reads and decodes the images of a part; leaves its rows and facts."""
    excluded: list[tuple[str, str]] = []
    facts: list[tuple[str, str, str, int, int]] = []
    given: set[str | None] = set()
    names: Counter[str] = Counter()

    def rows() -> Iterator[Row]:
        sources = _load(work.sources(part))
        batches = iter(lambda: list(itertools.islice(sources, _BATCH)), [])
        found = itertools.chain.from_iterable(_parallel(examine_batch, batches))
        for source, row in zip(_load(work.sources(part)), found, strict=True):
            names[source.filename] += 1
            if row.reason is None:
                given.add(source.split)
                side = min(row.height, row.width)
                facts.append((row.sha256, source.label, source.split or "", row.bytes, side))
            else:
                excluded.append((source.filename, row.reason))
            yield row
            drivers.advance()

    _store(work.rows(part), rows())
    _store(work.facts(part), sorted(facts))
    return Examined(frozenset(given), tuple(excluded), next(iter(names.most_common(1)), None))


@dataclasses.dataclass(frozen=True)
class Tally:
    """What the facts of all images that can be read come to.

    Attributes:
        images: (split, label) → how many.
        bytes: split → of the encoded images.
        sides: shorter side in pixels → how many images of train.
        straddling: how many different files are in train and in another split too.
        ambiguous: how many different files have two labels or more.
    """

    images: Counter[tuple[str, str]]
    bytes: Counter[str]
    sides: Counter[int]
    straddling: int
    ambiguous: int


def merged(work: Work) -> Iterator[tuple[str, str, str | None, int, int]]:
    """The facts of all parts in order of the images' SHA-256; the memory holds one of each part."""
    for sha256, label, given, size, side in heapq.merge(*(_load(work.facts(part)) for part in range(work.parts))):
        yield sha256, label, given or None, size, side


def tally(facts: Iterable[tuple[str, str, str | None, int, int]], plan: splits.Splits) -> Tally:
    """Counts facts that are sorted."""
    result = Tally(Counter(), Counter(), Counter(), 0, 0)
    straddling = ambiguous = 0
    for sha256, copies in itertools.groupby(facts, lambda fact: fact[0]):
        places, labels = set(), set()
        for _, label, given, size, side in copies:
            split = plan.of(sha256, given)
            result.images[split, label] += 1
            result.bytes[split] += size
            if split == "train":
                result.sides[side] += 1
            places.add(split)
            labels.add(label)
        straddling += "train" in places and len(places) > 1
        ambiguous += len(labels) > 1
    return dataclasses.replace(result, straddling=straddling, ambiguous=ambiguous)


def check_trainable(summary: Summary) -> None:
    """Raises UserError for the first of the flaws that a look at the data set only warns of."""
    for flaw in summary.flaws():
        raise UserError(f"--dataset: {flaw}")


def _summarize(dataset: Dataset, found: Tally, excluded: dict[str, str]) -> Summary:
    readable = {label for _, label in found.images}
    labels = tuple(label for label in dataset.labels if label in readable)
    counts = {split: {label: found.images[split, label] for label in labels} for split in examples.SPLITS}
    if not found.images:
        raise UserError(
            f"--dataset {dataset.name}: none of its {len(excluded)} files is an image that can be read" + _few(excluded)
        )
    gone = [label for label in dataset.labels if label not in readable]
    untested = [label for label in labels if not counts["test"][label]] if found.bytes["test"] else []
    train = sum(counts["train"].values())
    summary = Summary(
        labels=labels,
        counts=counts,
        excluded=excluded,
        warnings=(),
        mean_bytes=max(1, found.bytes["train"] // max(1, train)),
        median_side=median(found.sides) if train else 0,
        mirror=dataset.mirror,
    )
    remarks = [
        *dataset.flaws,
        *summary.flaws(),
        *dataset.remarks,
        *([f"{len(excluded)} file{'s' * (len(excluded) > 1)} excluded" + _few(excluded)] if excluded else []),
        *([f"classes without a readable image, left out: {_names(gone)}"] if gone else []),
        *([f"classes without a test image (add images to measure them): {_names(untested)}"] if untested else []),
        *(
            [f"{found.straddling} images are in train and, byte for byte, in val or test too: the figures will flatter"]
            if found.straddling
            else []
        ),
        *([f"{found.ambiguous} images appear under two or more labels"] if found.ambiguous else []),
    ]
    return dataclasses.replace(summary, warnings=tuple(map(one_line, remarks)))


def _names(labels: Sequence[str]) -> str:
    more = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _images(count: int) -> str:
    return f"{count} image" + "s" * (count != 1)


def median(counts: Counter[int]) -> int:
    """Of values that occur so often; the upper one of two."""
    ordered = sorted(counts)
    ends = itertools.accumulate(counts[value] for value in ordered)
    return next(value for value, end in zip(ordered, ends, strict=True) if end > counts.total() // 2)


def _few(facts: dict[str, str]) -> str:
    """The first three names, each with what is to be said of it, as the end of a line."""
    shown = [one_line(f"{name} ({fact})") for name, fact in itertools.islice(facts.items(), 3)]
    more = len(facts) - len(shown)
    return ": " + ", ".join(shown) + (f" and {more} more" if more else "") if shown else ""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One of a split's `count` shards."""

    split: str
    number: int
    count: int


def write(work: Work, directory: Path, shard: Shard) -> None:
    """Writes a shard.

    Raises:
        UserError: an image is not what `examine` read.
    """
    name, labels, plan = next(_load(work.decided))
    index = {label: number for number, label in enumerate(labels)}
    first = shard.number * work.parts // shard.count
    last = -(-(shard.number + 1) * work.parts // shard.count)

    def chosen() -> Iterator[tuple[Source, Row]]:
        for part in range(first, last):
            for source, row in zip(_load(work.sources(part)), _load(work.rows(part)), strict=True):
                if (
                    row.reason is None
                    and plan.of(row.sha256, source.split) == shard.split
                    and _hash(source.filename) * shard.count >> 64 == shard.number
                ):
                    yield source, row

    def example(pair: tuple[Source, Row]) -> examples.Example:
        source, row = pair
        try:
            encoded = source.read()
        except OSError:
            encoded = b""
        if hashlib.sha256(encoded).hexdigest() != row.sha256:
            raise UserError(f"--dataset {name}: {one_line(source.filename)} changed while it was read; run again")
        return examples.Example(
            encoded,
            source.filename,
            index[str(source.label)],
            str(source.label),
            row.format,
            row.height,
            row.width,
            row.sha256,
            source.columns,
        )

    def counted() -> Iterator[examples.Example]:
        for one in _parallel(example, chosen()):
            yield one
            drivers.advance()

    path = examples.shard_path(directory, shard.split, shard.number, shard.count)
    examples.write_shard(path, counted(), work.folder)


def ingest(dataset: Dataset, directory: Path, driver: drivers.Driver | None = None) -> Summary:
    """Writes the shards of `dataset` to `directory`; `driver` runs the tasks, on this machine when None.

    Raises:
        UserError: nothing readable, or the data set changed meanwhile.
    """
    directory = directory.absolute()
    parts = min(_MOST_PARTS, max(1, -(-dataset.count // PART)))
    work = Work(directory / ".work", parts)
    shutil.rmtree(work.folder, ignore_errors=True)
    work.folder.mkdir(parents=True)
    try:
        if driver is not None:
            return _ingest(dataset, directory, work, driver)
        with drivers.local() as here:
            return _ingest(dataset, directory, work, here)
    finally:
        shutil.rmtree(work.folder, ignore_errors=True)


def _ingest(dataset: Dataset, directory: Path, work: Work, driver: drivers.Driver) -> Summary:
    deal(dataset, work)
    examined = list(
        driver(functools.partial(examine, work), range(work.parts), total=dataset.count, description="Checking images")
    )
    name, times = max((part.most for part in examined if part.most), key=lambda most: most[1], default=("", 0))
    if times > 1:
        raise UserError(f"--dataset {dataset.name}: {one_line(name)} is listed {times} times; expected each image once")
    excluded = dict(sorted(itertools.chain.from_iterable(part.excluded for part in examined)))
    given = frozenset().union(*(part.given for part in examined))
    plan = splits.plan((fact[:3] for fact in merged(work)), given)
    found = tally(merged(work), plan)
    summary = _summarize(dataset, found, excluded)
    _store(work.decided, [(dataset.name, summary.labels, plan)])
    shards = [
        Shard(split, number, count)
        for split in examples.SPLITS
        for count in [examples.shard_count(found.bytes[split])]
        for number in range(count)
    ]
    for split in examples.SPLITS:
        Path(directory, f"Split-{split}").mkdir(exist_ok=True)
    write_one = functools.partial(write, work, directory)
    collections.deque(driver(write_one, shards, total=found.images.total(), description="Writing examples"), maxlen=0)
    return summary
