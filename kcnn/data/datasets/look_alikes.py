"""Classes whose names look alike: one name in two Unicode forms becomes one class, others are named in a remark."""

import dataclasses
import re
import unicodedata
from collections.abc import Iterable, Iterator

from kcnn.data.datasets import Dataset, ImageSource

_NAMED = 3  # groups of names, in a remark
# Letters of Greek and Cyrillic, in lower case, and the Latin letters that look the same.
_TWINS = str.maketrans("αεικνορτυχавеіјкмнорсѕтухһԁԛԝ", "aeikvoptuxabeijkmhopcstyxhdqw")
_BETWEEN_WORDS = re.compile(r"(?<=[^\W_])[-_]+(?=[^\W_])")


def merge_forms(dataset: Dataset) -> Dataset:
    """Return the data set with its classes' names in Unicode's normal form C, and a remark on those that look alike.

    A name with an accent is one character or two, as the system wrote it; no difference can be seen.
    """
    forms = {label: unicodedata.normalize("NFC", label) for label in dataset.labels}
    if any(label != form for label, form in forms.items()):
        in_order = list(dataset.labels) == sorted(dataset.labels)
        merged = dict.fromkeys(forms.values())
        labels = tuple(sorted(merged) if in_order else merged)

        def sources() -> Iterator[ImageSource]:
            for source in original.sources():
                label = source.label and forms.get(source.label, source.label)
                yield source if label == source.label else dataclasses.replace(source, label=label)

        original = dataset
        dataset = dataclasses.replace(dataset, labels=labels, sources=sources)
    if alike := _look_alikes(dataset.labels):
        shown = "; ".join(alike[:_NAMED]) + (f" and {len(alike) - _NAMED} more" if len(alike) > _NAMED else "")
        remark = f"classes that look alike, perhaps one under several names: {shown}"
        dataset = dataclasses.replace(dataset, remarks=(*dataset.remarks, remark))
    return dataset


def _look_alikes(labels: Iterable[str]) -> list[str]:
    """Return the names of each group that looks alike, in words."""
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        groups.setdefault(_skeleton(label), []).append(label)
    return [_in_words(group) for group in groups.values() if len(group) > 1]


def _skeleton(name: str) -> str:
    """Return what is left of a name without case, width, invisible signs, kind of space and alphabet."""
    plain = _BETWEEN_WORDS.sub(" ", unicodedata.normalize("NFKC", name).casefold().translate(_TWINS))
    return " ".join("".join(sign for sign in plain if unicodedata.category(sign) != "Cf").split())


def _in_words(names: list[str]) -> str:
    shown = [repr(name) if name.isascii() else ascii(name) for name in names]
    return f"{', '.join(shown[:-1])} and {shown[-1]}"
