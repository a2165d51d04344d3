"""Sketches of bounded size to which the values of a feature are reduced: numbers, values, and counts of distinct ones.

The sum of two sketches is the sketch of both samples. It is the same, to the byte, however samples are grouped and
ordered: every number is an integer multiple of its feature's unit, so that adding rounds nothing.
"""

import dataclasses
import functools
import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

FINE_BITS, COARSE_BITS = 8, 3  # 256 and 8 bins from a power of two to the next
_SMALLEST = 4096  # hashes that a distinct count keeps: exact below, a standard error of 1.6% above
_LISTED = 1000  # values of a label column, as many as TensorFlow Data Validation lists


def bin_index(value: int, bits: int) -> int:
    """Return the bin of a number ≥ 0: one each below 2^(bits + 1), above 2^bits from a power of two to the next."""
    shift = max(0, value.bit_length() - bits - 1)
    return (shift << bits) + (value >> shift)


def bin_range(index: int, bits: int) -> tuple[int, int]:
    """Return the smallest number in a bin, and the smallest in the next bin."""
    shift = max(0, (index >> bits) - 1)
    low = (index - (shift << bits)) << shift
    return low, low + (1 << shift)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A sketch of numbers ≥ 0, in units of their feature.

    All attributes are exact, except that `bins` are 0.4% wide, or 1 unit where that is more.

    Attributes:
        count: how many numbers.
        total: their sum.
        squares: the sum of their squares.
        minimum: the smallest; 0 of none.
        maximum: the largest; 0 of none.
        bins: index of a bin (`bin_index` of `FINE_BITS`) → numbers in it.
    """

    count: int = 0
    total: int = 0
    squares: int = 0
    minimum: int = 0
    maximum: int = 0
    bins: Mapping[int, int] = dataclasses.field(default_factory=Counter)

    @classmethod
    def of(cls, values: Sequence[int]) -> "Numbers":
        """Reduce the values to a sketch."""
        if not values:
            return cls()
        squares = sum(value * value for value in values)
        bins = Counter(bin_index(value, FINE_BITS) for value in values)
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
        """The mean, in units."""
        return self.total / self.count

    @property
    def deviation(self) -> float:
        """The standard deviation of the population, in units."""
        return math.sqrt((self.count * self.squares - self.total**2) / self.count**2)

    @functools.cached_property
    def representatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Float64 values in units, ascending, and their int64 counts: the middle of a bin stands for all in the bin.

        A value is off by 0.2% or a quarter of that, and by nothing below 512 units.
        """
        ranges = [bin_range(index, FINE_BITS) for index in sorted(self.bins)]
        middles = np.array([(low + high - 1) / 2 for low, high in ranges])
        return middles.clip(self.minimum, self.maximum), np.array([self.bins[index] for index in sorted(self.bins)])

    def values_at(self, ranks: Sequence[int]) -> np.ndarray:
        """Return the values of these ranks, which count from 0, in units, float64 [len(ranks)]."""
        values, counts = self.representatives
        found = values[np.searchsorted(np.cumsum(counts), ranks, side="right")]
        exact = {0: self.minimum, self.count - 1: self.maximum}
        return np.array([exact.get(rank, value) for rank, value in zip(ranks, found, strict=True)], float)


@dataclasses.dataclass(frozen=True)
class Values:
    """Counts of each value, for features with few values."""

    counts: Mapping[bytes, int] = dataclasses.field(default_factory=Counter)

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "Values":
        """Count the values."""
        return cls(Counter(values))

    def __add__(self, other: "Values") -> "Values":
        return Values(Counter(self.counts) + Counter(other.counts))

    @property
    def count(self) -> int:
        """The number of values, each as often as it occurs."""
        return sum(self.counts.values())


@dataclasses.dataclass(frozen=True)
class Distinct:
    """A count of different values, from the smallest of their 64-bit hashes (Bar-Yossef et al., 2002).

    Attributes:
        count: how many values, each as often as it occurs.
        length: the sum of their lengths, in bytes.
        hashes: the smallest hashes, ascending.
    """

    count: int = 0
    length: int = 0
    hashes: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "Distinct":
        """Hash the values."""
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
    """A sketch of a label column: counts of each value, or, beyond `_LISTED` values, the number of different ones."""

    values: Values | None = Values()
    distinct: Distinct = Distinct()

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "Strings":
        """Reduce the values to a sketch."""
        return cls(_unless_many(Values.of(values)), Distinct.of(values))

    def __add__(self, other: "Strings") -> "Strings":
        values = _unless_many(self.values + other.values) if self.values and other.values else None
        return Strings(values, self.distinct + other.distinct)


def _unless_many(values: Values) -> Values | None:
    return values if len(values.counts) <= _LISTED else None
