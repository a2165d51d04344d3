"""Statistics of a split's images: one pass over each shard, and an associative merge.

A shard is reduced to counts, integers and sketches of bounded size. Their sum is the same, to the byte, however the
shards are grouped and ordered.
"""

import dataclasses
import itertools
import operator
from collections.abc import Iterable, Mapping, Sequence

from kcnn.data.drivers import Driver
from kcnn.data.records import map_shards
from kcnn.data.validation.measures import Measurements, features_of, measure_example
from kcnn.data.validation.sketches import Distinct, Numbers, Strings, Values

_CHUNK = 4096  # measured examples that memory holds


@dataclasses.dataclass(frozen=True)
class Statistics:
    """Statistics of any number of examples.

    Attributes:
        examples: how many there are.
        features: feature name → the sketch of its values.
    """

    examples: int
    features: Mapping[str, Numbers | Values | Distinct | Strings]

    @classmethod
    def of(cls, rows: Sequence[Measurements]) -> "Statistics":
        """Reduce measured examples to statistics; a feature that an example lacks is missing there."""
        columns = {
            feature.name: feature.kind.of([row[feature.name] for row in rows if feature.name in row])  # type: ignore
            for feature in features_of(frozenset().union(*rows))
        }
        return cls(len(rows), columns)

    def __add__(self, other: "Statistics") -> "Statistics":
        merged = {
            feature.name: operator.add(*(part.features.get(feature.name, feature.kind()) for part in (self, other)))
            for feature in features_of(self.features.keys() | other.features.keys())
        }
        return Statistics(self.examples + other.examples, merged)


def compute_statistics(
    shards: Mapping[str, Sequence[str]], total: int | None = None, driver: Driver | None = None
) -> dict[str, Statistics]:
    """Compute the statistics of each split.

    Args:
        shards: split → its files.
        total: how many examples the files hold, for the progress bar.
        driver: runs the computation; a driver on this machine when None.

    Raises:
        UserError: a file is damaged.
    """
    found = dict.fromkeys(shards, Statistics.of([]))
    parts = map_shards(summarize_records, shards, total=total, description="Measuring images", driver=driver)
    for split, part in parts:
        found[split] += part
    return found


def summarize_records(records: Iterable[bytes]) -> Statistics:
    """Compute the statistics of serialized tf.Examples; memory holds one, and `_CHUNK` measurements."""
    rows, total = map(measure_example, records), Statistics.of([])
    while chunk := list(itertools.islice(rows, _CHUNK)):
        total += Statistics.of(chunk)
    return total
