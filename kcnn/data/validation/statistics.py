"""Statistics of a split's images: one pass over each shard, an associative merge, and TensorFlow Metadata's proto.

A shard is reduced to counts, integers and sketches of bounded size, whose sum is the same to the byte however the
shards are grouped and ordered: every number is held as an integer multiple of its feature's unit, so that adding
rounds nothing. The proto is what TensorFlow Data Validation writes and reads, and so do its tools.
"""

import dataclasses
import functools
import hashlib
import heapq
import io
import itertools
import math
import operator
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from tensorflow_metadata.proto.v0 import derived_feature_pb2, statistics_pb2

from kcnn.data import pictures
from kcnn.data.drivers import Driver
from kcnn.data.records import COLUMN, Example, map_shards

_DECODED_SIDE = 256  # pixels: a JPEG is decoded at a half, a quarter or an eighth while its sides stay above this
_SMALL_SIDE = 128  # brightness and sharpness are those of the image shrunk to fit this square
_FINE, _COARSE = 8, 3  # bits of a number that tell bins apart: 256 and 8 bins from a power of two to the next
_SMALLEST = 4096  # hashes that a distinct count keeps: exact below, a standard error of 1.6% above
_BUCKETS = 10  # of the histograms, as many as TensorFlow Data Validation makes
_LISTED = 1000  # values of a label column, as many as TensorFlow Data Validation lists
_ROWS = 4096  # measured examples that memory holds
_FRACTION = 2**-16

_Type = statistics_pb2.FeatureNameStatistics


def _bin(value: int, bits: int) -> int:
    """The bin of a number ≥ 0: below 2^(bits + 1) a bin each, above 2^bits bins from a power of two to the next."""
    shift = max(0, value.bit_length() - bits - 1)
    return (shift << bits) + (value >> shift)


def _range(index: int, bits: int) -> tuple[int, int]:
    """The smallest number in a bin, and that of the next bin."""
    shift = max(0, (index >> bits) - 1)
    low = (index - (shift << bits)) << shift
    return low, low + (1 << shift)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """What is known of numbers ≥ 0, in units of their feature: exact but for the bins, 0.4% wide and 1 at least."""

    count: int = 0
    total: int = 0
    squares: int = 0
    minimum: int = 0  # of none
    maximum: int = 0
    bins: Mapping[int, int] = dataclasses.field(default_factory=Counter)

    @classmethod
    def of(cls, values: Sequence[int]) -> "Numbers":
        """Reduces the values."""
        if not values:
            return cls()
        squares = sum(value * value for value in values)
        bins = Counter(_bin(value, _FINE) for value in values)
        return cls(len(values), sum(values), squares, min(values), max(values), bins)

    def __add__(self, other: "Numbers") -> "Numbers":
        if not (self.count and other.count):
            return self if self.count else other
        return Numbers(
            self.count + other.count,
            self.total + other.total,
            self.squares + other.squares,
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            Counter(self.bins) + Counter(other.bins),
        )

    @property
    def mean(self) -> float:
        """Of the values, in units."""
        return self.total / self.count

    @property
    def deviation(self) -> float:
        """Of the population, in units."""
        return math.sqrt((self.count * self.squares - self.total**2) / self.count**2)

    @functools.cached_property
    def representatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Float64 values in units, ascending, and their int64 counts: a value stands for all in its bin.

        The middle of the bin, so that a value is off by 0.2% or a quarter of that, and by nothing below 512 units.
        """
        ranges = [_range(index, _FINE) for index in sorted(self.bins)]
        middles = np.array([(low + high - 1) / 2 for low, high in ranges])
        return middles.clip(self.minimum, self.maximum), np.array([self.bins[index] for index in sorted(self.bins)])

    def at_ranks(self, ranks: Sequence[int]) -> np.ndarray:
        """The values of these ranks, from 0, in units."""
        values, counts = self.representatives
        found = values[np.searchsorted(np.cumsum(counts), ranks, side="right")]
        exact = {0: self.minimum, self.count - 1: self.maximum}
        return np.array([exact.get(rank, value) for rank, value in zip(ranks, found, strict=True)], float)


@dataclasses.dataclass(frozen=True)
class Values:
    """How often each value occurs, for features with few of them."""

    counts: Mapping[bytes, int] = dataclasses.field(default_factory=Counter)

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "Values":
        """Counts the values."""
        return cls(Counter(values))

    def __add__(self, other: "Values") -> "Values":
        return Values(Counter(self.counts) + Counter(other.counts))

    @property
    def count(self) -> int:
        """Of the values, each as often as it occurs."""
        return sum(self.counts.values())


@dataclasses.dataclass(frozen=True)
class Distinct:
    """How many different values there are, from the smallest of their 64-bit hashes (Bar-Yossef et al., 2002)."""

    count: int = 0
    length: int = 0
    hashes: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "Distinct":
        """Hashes the values."""
        hashes = {int.from_bytes(hashlib.blake2b(value, digest_size=8).digest(), "big") for value in values}
        return cls(len(values), sum(map(len, values)), tuple(heapq.nsmallest(_SMALLEST, hashes)))

    def __add__(self, other: "Distinct") -> "Distinct":
        hashes = heapq.nsmallest(_SMALLEST, {*self.hashes, *other.hashes})
        return Distinct(self.count + other.count, self.length + other.length, tuple(hashes))

    @property
    def unique(self) -> int:
        """The number of different values; an estimate from `_SMALLEST` on."""
        if len(self.hashes) < _SMALLEST:
            return len(self.hashes)
        return round((_SMALLEST - 1) * 2**64 / self.hashes[-1])


@dataclasses.dataclass(frozen=True)
class Strings:
    """What is known of a label column: how often each value occurs, while no more than `_LISTED` do, or how many do."""

    values: Values | None = Values()
    distinct: Distinct = Distinct()

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "Strings":
        """Reduces the values."""
        return cls(_listed(Values.of(values)), Distinct.of(values))

    def __add__(self, other: "Strings") -> "Strings":
        values = _listed(self.values + other.values) if self.values and other.values else None
        return Strings(values, self.distinct + other.distinct)


def _listed(values: Values) -> Values | None:
    return values if len(values.counts) <= _LISTED else None


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature that is measured.

    Attributes:
        name: as in the tf.Example.
        type: what the proto calls it.
        kind: how its values are reduced.
        unit: of the integers that hold its numbers.
        derived: how it follows from the image; empty for what the tf.Example holds itself.
    """

    name: str
    type: Any
    kind: type[Numbers] | type[Values] | type[Distinct] | type[Strings]
    unit: float = 1.0
    derived: str = ""


FEATURES = (
    Feature("image/class/label", _Type.INT, Values),
    Feature("image/class/text", _Type.STRING, Values),
    Feature("image/encoded", _Type.BYTES, Numbers),  # the numbers of bytes
    Feature("image/filename", _Type.STRING, Distinct),
    Feature("image/format", _Type.STRING, Values),
    Feature("image/height", _Type.INT, Numbers),
    Feature("image/key/sha256", _Type.STRING, Distinct),
    Feature("image/width", _Type.INT, Numbers),
    Feature("image/aspect", _Type.FLOAT, Numbers, _FRACTION, "width / height of the stored pixels"),
    Feature("image/brightness", _Type.FLOAT, Numbers, _FRACTION, "mean luminance (ITU-R 601), 0 to 255"),
    Feature("image/bytes", _Type.INT, Numbers, derived="length of the file"),
    Feature("image/channels", _Type.INT, Numbers, derived="samples of a stored pixel; 3 for a palette"),
    Feature(
        "image/sharpness",
        _Type.FLOAT,
        Numbers,
        _FRACTION,
        f"variance of the Laplacian of the luminance, the image shrunk to fit {_SMALL_SIDE}x{_SMALL_SIDE}",
    ),
)

Row = dict[str, int | bytes]


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Of any number of examples: how many they are, and feature name → what its values were reduced to."""

    examples: int
    features: Mapping[str, Numbers | Values | Distinct | Strings]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Statistics":
        """Of measured examples; a feature that a row lacks is missing there."""
        columns = {
            feature.name: feature.kind.of([row[feature.name] for row in rows if feature.name in row])  # type: ignore
            for feature in _measured(frozenset().union(*rows))
        }
        return cls(len(rows), columns)

    def __add__(self, other: "Statistics") -> "Statistics":
        merged = {
            feature.name: operator.add(*(part.features.get(feature.name, feature.kind()) for part in (self, other)))
            for feature in _measured(self.features.keys() | other.features.keys())
        }
        return Statistics(self.examples + other.examples, merged)


def _measured(names: Collection[str]) -> list[Feature]:
    """`FEATURES`, and the label columns among the names of features."""
    return [*FEATURES, *(Feature(name, _Type.STRING, Strings) for name in sorted(names) if name.startswith(COLUMN))]


def measure(serialized: bytes) -> Row:
    """Of a tf.Example: feature name → its value, as bytes or as an integer in the feature's unit."""
    example = Example.FromString(serialized).features.feature
    row: Row = {}
    for feature in FEATURES:
        if not feature.derived and feature.name in example:
            held = example[feature.name]
            values = held.bytes_list.value or held.int64_list.value
            if values:
                row[feature.name] = values[0]
    row |= {name: held.bytes_list.value[0] for name, held in example.items() if name.startswith(COLUMN)}
    encoded = row.pop("image/encoded", b"")
    if "image/class/label" in row:
        row["image/class/label"] = str(row["image/class/label"]).encode()
    if isinstance(encoded, bytes) and encoded:
        row |= {"image/encoded": len(encoded), "image/bytes": len(encoded), **_look(encoded)}
    return row


def _look(encoded: bytes) -> Row:
    """What the pixels tell; nothing where Pillow cannot read what TensorFlow could."""
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            width, height = image.size
            channels = 3 if image.mode == "P" else len(image.getbands())
            grey = luminance(image)
    except pictures.DAMAGE:
        return {}
    grey.thumbnail((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(grey).astype(np.int32)
    row: Row = {
        "image/channels": channels,
        "image/aspect": round(width / height / _FRACTION),
        "image/brightness": round(int(pixels.sum()) / pixels.size / _FRACTION),
    }
    if min(pixels.shape) >= 3:
        laplacian = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4 * pixels[1:-1, 1:-1]
        size, total, squares = laplacian.size, int(laplacian.sum()), int((laplacian**2).sum(dtype=np.int64))
        row["image/sharpness"] = round((size * squares - total**2) / size**2 / _FRACTION)
    return row


def luminance(image: Image.Image) -> Image.Image:
    """An opened image in 8-bit grey (ITU-R 601); a JPEG at a fraction of its size, 256 pixels a side at least."""
    image.draft("L", (_DECODED_SIDE, _DECODED_SIDE))
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")


def collect(records: Iterable[bytes]) -> Statistics:
    """Statistics of serialized tf.Examples, of which memory holds one, and `_ROWS` measurements."""
    rows, total = map(measure, records), Statistics.of([])
    while chunk := list(itertools.islice(rows, _ROWS)):
        total += Statistics.of(chunk)
    return total


def compute(
    shards: Mapping[str, Sequence[str]], total: int | None = None, driver: Driver | None = None
) -> dict[str, Statistics]:
    """Statistics of each split.

    Args:
        shards: split → its files.
        total: how many examples they hold, for the progress bar.
        driver: what runs it; this machine when None.

    Raises:
        UserError: a file is damaged.
    """
    found = dict.fromkeys(shards, Statistics.of([]))
    for split, part in map_shards(collect, shards, total=total, description="Measuring images", driver=driver):
        found[split] += part
    return found


COMPARED = "log_histogram"  # the custom statistic with buckets that are the same in every split


def to_proto(statistics: Statistics, name: str) -> statistics_pb2.DatasetFeatureStatisticsList:
    """As TensorFlow Data Validation writes it, for one data set of this name.

    Numbers carry one histogram more, the custom statistic `COMPARED`: its edges do not depend on the data, eight
    buckets from a power of two to the next, so that those of two splits can be compared bucket by bucket.
    """
    result = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = result.datasets.add(name=name, num_examples=statistics.examples)
    for feature in _measured(statistics.features.keys()):
        part = statistics.features[feature.name]
        if isinstance(part, Strings):
            part = part.values or part.distinct
        proto = dataset.features.add(type=feature.type)
        proto.path.step.append(feature.name)
        common = _common(part.count, statistics.examples)
        if isinstance(part, Values):
            proto.string_stats.CopyFrom(_values_proto(part))
            proto.string_stats.common_stats.CopyFrom(common)
        elif isinstance(part, Distinct):
            proto.string_stats.unique = part.unique
            proto.string_stats.avg_length = part.length / max(1, part.count)
            proto.string_stats.common_stats.CopyFrom(common)
        elif feature.type == _Type.BYTES:
            proto.bytes_stats.common_stats.CopyFrom(common)
            if part.count:
                proto.bytes_stats.avg_num_bytes = part.mean
                proto.bytes_stats.min_num_bytes = part.minimum
                proto.bytes_stats.max_num_bytes = proto.bytes_stats.max_num_bytes_int = part.maximum
        else:
            proto.num_stats.common_stats.CopyFrom(common)
            if part.count:
                proto.num_stats.MergeFrom(_numbers_proto(part, feature.unit))
                proto.custom_stats.add(name=COMPARED).histogram.CopyFrom(_log_histogram(part, feature.unit))
        if feature.derived:
            proto.validation_derived_source.CopyFrom(derived_source(feature))
    return result


def derived_source(feature: Feature) -> derived_feature_pb2.DerivedFeatureSource:
    """Says in statistics and schema that a feature is not in the examples, and what it is."""
    source = derived_feature_pb2.DerivedFeatureSource(deriver_name="kcnn", description=feature.derived)
    source.source_path.add().step.append("image/encoded")
    return source


def _common(count: int, examples: int) -> statistics_pb2.CommonStatistics:
    common = statistics_pb2.CommonStatistics(num_non_missing=count, num_missing=examples - count, tot_num_values=count)
    if count:
        common.min_num_values = common.max_num_values = 1
        common.avg_num_values = 1.0
        common.num_values_histogram.type = statistics_pb2.Histogram.QUANTILES
        for _ in range(_BUCKETS):
            common.num_values_histogram.buckets.add(low_value=1, high_value=1, sample_count=count / _BUCKETS)
    return common


def _values_proto(part: Values) -> statistics_pb2.StringStatistics:
    """With every value in the rank histogram, where TensorFlow Data Validation keeps a thousand."""
    proto = statistics_pb2.StringStatistics(unique=len(part.counts))
    if part.counts:
        proto.avg_length = sum(len(value) * count for value, count in part.counts.items()) / part.count
    ranked = sorted(part.counts.items(), key=lambda item: (-item[1], item[0]))
    for rank, (value, count) in enumerate(ranked):
        text = value.decode("utf-8", "backslashreplace")
        proto.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=text, sample_count=count)
        if rank < 2 * _BUCKETS:
            proto.top_values.add(value=text, frequency=count)
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            proto.invalid_utf8_count += count
    return proto


def _numbers_proto(part: Numbers, unit: float) -> statistics_pb2.NumericStatistics:
    median = part.at_ranks([(part.count - 1) // 2, part.count // 2]).mean()
    proto = statistics_pb2.NumericStatistics(
        mean=part.mean * unit,
        std_dev=part.deviation * unit,
        num_zeros=part.bins.get(0, 0),
        min=part.minimum * unit,
        median=median * unit,
        max=part.maximum * unit,
    )
    values, counts = part.representatives
    standard = proto.histograms.add(type=statistics_pb2.Histogram.STANDARD)
    if part.minimum == part.maximum:
        standard.buckets.add(low_value=proto.min, high_value=proto.max, sample_count=part.count)
    else:
        sizes, edges = np.histogram(values, _BUCKETS, (part.minimum, part.maximum), weights=counts)
        for low, high, size in zip(edges[:-1], edges[1:], sizes, strict=True):
            standard.buckets.add(low_value=low * unit, high_value=high * unit, sample_count=size)
    ranks = [step * (part.count - 1) // _BUCKETS for step in range(_BUCKETS + 1)]
    quantiles = proto.histograms.add(type=statistics_pb2.Histogram.QUANTILES)
    for low, high in itertools.pairwise(part.at_ranks(ranks) * unit):
        quantiles.buckets.add(low_value=low, high_value=high, sample_count=part.count / _BUCKETS)
    return proto


def _log_histogram(part: Numbers, unit: float) -> statistics_pb2.Histogram:
    coarse: Counter[int] = Counter()
    for index, count in part.bins.items():
        coarse[_bin(_range(index, _FINE)[0], _COARSE)] += count
    proto = statistics_pb2.Histogram(type=statistics_pb2.Histogram.STANDARD)
    for index in sorted(coarse):
        low, high = _range(index, _COARSE)
        proto.buckets.add(low_value=low * unit, high_value=high * unit, sample_count=coarse[index])
    return proto
