"""Slices: the parts of a test set whose images share a class, a size, a format or a value of a label column."""

import array
import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kcnn.data.records import COLUMN
from kcnn.evaluation.metrics import wilson_interval

SMALLEST = 20  # examples: the accuracy of a smaller slice is chance
MOST_VALUES = 1000  # of an attribute; rarer values are one slice together
NONE = "(none)"  # the value of an image that has none


@dataclasses.dataclass(frozen=True)
class Attribute:
    """A property that divides N examples into slices; each example is in one of them.

    Attributes:
        name: "class", "size", "format" or a label column's name.
        values: the V ≥ 2 values, one for each slice.
        codes: int64 [N], each example's index in `values`.
    """

    name: str
    values: tuple[str, ...]
    codes: np.ndarray

    def count(self, chosen: np.ndarray) -> np.ndarray:
        """Count the examples of each slice, int64 [V], among those for which `chosen`, bool [N], is true."""
        return np.bincount(self.codes[chosen], minlength=len(self.values))

    def slice_names(self) -> list[str]:
        """Return the names of its slices: "format=PNG"."""
        return [f"{self.name}={value}" for value in self.values]


class AttributeCollector:
    """Gathers the attributes of records: eight bytes an image and attribute, and each value once."""

    def __init__(self) -> None:
        self._count = 0
        self._values: dict[str, dict[str, int]] = {}
        self._codes: dict[str, array.array] = {}

    def add(self, feature: Mapping[str, Any]) -> None:
        """Add the features of a record, tf.train.Feature messages by name."""
        found = {_column(name): _text(feature[name]) for name in feature if name.startswith(COLUMN)}
        found["size"] = _size(feature)
        found["format"] = _text(feature["image/format"]) if "image/format" in feature else ""
        for name in found.keys() - self._values.keys():
            self._values[name] = {"": 0}
            self._codes[name] = array.array("q", [0]) * self._count
        for name, values in self._values.items():
            self._codes[name].append(values.setdefault(found.get(name, ""), len(values)))
        self._count += 1

    def attributes(self, labels: np.ndarray, class_names: Sequence[str]) -> list[Attribute]:
        """Return the attributes with two values or more: class, size, format, then the columns by name.

        Args:
            labels: int64 [N], the class of each record.
            class_names: the classes' names.
        """
        columns = sorted(self._values.keys() - {"size", "format"})
        coded = [("class", list(class_names), labels)] + [
            (name, list(self._values[name]), np.frombuffer(self._codes[name], np.int64))
            for name in ["size", "format", *columns]
            if name in self._values
        ]
        found = [_attribute(name, values, codes) for name, values, codes in coded]
        return [attribute for attribute in found if len(attribute.values) > 1]


def _column(feature: str) -> str:
    name = feature.removeprefix(COLUMN)
    return f"column {name}" if name in ("class", "size", "format") else name


def _text(feature: Any) -> str:
    values = [*(value.decode("utf-8", "replace") for value in feature.bytes_list.value), *feature.int64_list.value]
    return ", ".join(map(str, values))


def _size(feature: Mapping[str, Any]) -> str:
    """Return the range of the shorter side between powers of two, or "" where the record has no sides."""
    sides = [
        side for name in ("image/height", "image/width") if name in feature for side in feature[name].int64_list.value
    ]
    if not sides:
        return ""
    power = max(3, (min(sides) - 1).bit_length())
    return f"{1 if power == 3 else 2 ** (power - 1) + 1} to {2**power} px"


def _attribute(name: str, values: list[str], codes: np.ndarray) -> Attribute:
    """Make an attribute of the values that occur, in their natural order; of too many, the commonest are kept."""
    counts = np.bincount(codes, minlength=len(values))
    kept = [int(code) for code in np.argsort(-counts, kind="stable")[:MOST_VALUES] if counts[code]]
    kept.sort(key=None if name == "class" else lambda code: _natural(values[code]))
    rest = int((counts > 0).sum()) - len(kept)
    names = [values[code] or NONE for code in kept] + [f"({rest} rarer values)"] * (rest > 0)
    place = np.full(len(values), len(kept), np.int64)
    place[kept] = np.arange(len(kept))
    return Attribute(name, tuple(names), place[codes])


def _natural(value: str) -> list[str | int]:
    """Return a sort key by which numbers within a text are ordered by their size."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", value)]


def slice_rows(attributes: Sequence[Attribute], correct: np.ndarray) -> list[dict[str, Any]]:
    """Return a row for each slice, JSON-able.

    Args:
        attributes: of the N examples.
        correct: bool [N], whether each answer is right.

    Returns:
        rows of "attribute", "value", "examples", "correct", "accuracy" with its 95% Wilson interval ("value", "low",
        "high"), and "judged", whether there are enough examples to judge the slice.
    """
    rows = []
    for attribute in attributes:
        examples, right = attribute.count(np.ones(len(correct), bool)), attribute.count(correct)
        low, high = wilson_interval(right, examples)
        for index, value in enumerate(attribute.values):
            accuracy = {"value": float(right[index] / examples[index]), "low": float(low[index])}
            rows.append(
                {
                    "attribute": attribute.name,
                    "value": value,
                    "examples": int(examples[index]),
                    "correct": int(right[index]),
                    "accuracy": {**accuracy, "high": float(high[index])},
                    "judged": bool(examples[index] >= SMALLEST),
                }
            )
    return rows


def least_accurate(rows: Sequence[dict[str, Any]], overall: float, most: int) -> list[dict[str, Any]]:
    """Return the judged rows of `slice_rows` with the least accuracy, the worst first.

    Args:
        rows: of `slice_rows`.
        overall: the accuracy that they are all below, 0 to 1.
        most: how many at most.
    """
    below = [row for row in rows if row["judged"] and row["accuracy"]["value"] < overall]
    return sorted(below, key=lambda row: row["accuracy"]["value"])[:most]
