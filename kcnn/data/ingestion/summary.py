"""The outcome of an ingestion: labels, counts, exclusions, and flaws that prevent training."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kcnn.data.records import SPLITS, UNLABELLED
from kcnn.errors import UserError
from kcnn.terminal import one_line

if TYPE_CHECKING:  # a summary is read without what makes one
    from kcnn.data.datasets import Dataset
    from kcnn.data.ingestion.tally import Tally

_NAMED = 20  # classes that a warning names


@dataclasses.dataclass(frozen=True)
class Summary:
    """The outcome of an ingestion.

    Attributes:
        labels: class names in the order of the model's outputs.
        counts: split → class → images.
        excluded: filename → reason.
        warnings: what the user should know before trusting the figures, a line each.
        mean_bytes: mean size of an encoded training image.
        median_side: median of the shorter sides of the training images, in pixels.
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
        """Return the number of images in a split."""
        return sum(self.counts[split].values())

    def flaws(self) -> list[str]:
        """Return the reasons why no classifier can be trained on the data set, a line each."""
        images = {label: sum(counts[label] for counts in self.counts.values()) for label in self.labels}
        found = []
        if len(self.labels) == 1 and self.labels != (UNLABELLED,):
            found.append(
                f"only class {self.labels[0]!r} has readable images; two or more are needed" + _first(self.excluded)
            )
        if untrained := {label: _images(images[label]) for label in images if not self.counts["train"][label]}:
            classes = f"{len(untrained)} class" + "es" * (len(untrained) > 1)
            found.append(f"{classes} without an image to train on; add some, or leave the class out{_first(untrained)}")
        if not self.total("test"):
            found.append(
                f"{_images(sum(images.values()))} are too few to hold out a test split; add some, or a test folder"
            )
        return found


def check_trainable(summary: Summary) -> None:
    """Raise UserError for the first flaw of a data set; commands that do not train only warn of it."""
    for flaw in summary.flaws():
        raise UserError(f"--dataset: {flaw}")


def summarize(dataset: "Dataset", tally: "Tally", excluded: dict[str, str]) -> Summary:
    """Summarize an ingestion.

    Args:
        dataset: the data set.
        tally: the counts of its readable images.
        excluded: filename → reason of the images that are excluded.

    Raises:
        UserError: no image is readable.
    """
    readable = {label for _, label in tally.images}
    labels = tuple(label for label in dataset.labels if label in readable)
    counts = {split: {label: tally.images[split, label] for label in labels} for split in SPLITS}
    if not tally.images:
        raise UserError(
            f"--dataset {dataset.name}: none of its {len(excluded)} files is an image that can be read"
            + _first(excluded)
            + "".join(f"; {flaw}" for flaw in dataset.flaws)
        )
    train = sum(counts["train"].values())
    summary = Summary(
        labels=labels,
        counts=counts,
        excluded=excluded,
        warnings=(),
        mean_bytes=max(1, tally.bytes["train"] // max(1, train)),
        median_side=_median(tally.sides) if train else 0,
        mirror=dataset.mirror,
    )
    lines = [*dataset.flaws, *summary.flaws(), *dataset.remarks, *_warnings(dataset, tally, summary)]
    return dataclasses.replace(summary, warnings=tuple(map(one_line, lines)))


def _warnings(dataset: "Dataset", tally: "Tally", summary: Summary) -> list[str]:
    excluded, labels, tested = summary.excluded, summary.labels, summary.counts["test"]
    lines = []
    if excluded:
        lines.append(f"{len(excluded)} file{'s' * (len(excluded) > 1)} excluded" + _first(excluded))
    if without := [label for label in dataset.labels if label not in labels]:
        lines.append(f"classes without a readable image, left out: {_names(without)}")
    if tally.bytes["test"] and (untested := [label for label in labels if not tested[label]]):
        lines.append(f"classes without a test image (add images to measure them): {_names(untested)}")
    if tally.straddling:
        lines.append(
            f"{tally.straddling} images are in train and, byte for byte, in val or test too: figures will be too high"
        )
    if tally.ambiguous:
        lines.append(f"{tally.ambiguous} images appear under two or more labels")
    return lines


def _median(counts: Counter[int]) -> int:
    """Return the median of values that occur so often; the upper one of two."""
    ordered = sorted(counts)
    ends = itertools.accumulate(counts[value] for value in ordered)
    return next(value for value, end in zip(ordered, ends, strict=True) if end > counts.total() // 2)


def _names(labels: Sequence[str]) -> str:
    more = len(labels) - _NAMED
    return ", ".join(labels[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _images(count: int) -> str:
    return f"{count} image" + "s" * (count != 1)


def _first(remarks: Mapping[str, str]) -> str:
    """Return the end of a line: the first three names, each with its remark."""
    shown = [one_line(f"{name} ({remark})") for name, remark in itertools.islice(remarks.items(), 3)]
    more = len(remarks) - len(shown)
    return ": " + ", ".join(shown) + (f" and {more} more" if more else "") if shown else ""
