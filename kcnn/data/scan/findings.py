"""The findings of a scan, and the relations between copies of one picture."""

import dataclasses
from collections.abc import Mapping

from kcnn.data.scan.checks import CHECKS

# Findings that matter before training.
_WARNED_OF = ("leak", "contradiction", *(check.name for check in CHECKS if check.warned))


@dataclasses.dataclass(frozen=True)
class CopyRelation:
    """A relation between copies of one picture.

    Attributes:
        name: the finding's name.
        title: its name for people.
        reason: why it matters.
    """

    name: str
    title: str
    reason: str


COPIES = (
    CopyRelation(
        "leak",
        "Leaks: one picture in several splits",
        "The network is tested on images that it was trained on: the measured accuracy is too high.",
    ),
    CopyRelation(
        "contradiction",
        "Contradictions: one picture under several labels",
        "One of the labels is wrong, or the picture shows both: no answer is right for all copies.",
    ),
    CopyRelation(
        "duplicate",
        "Duplicates: one picture several times in a split",
        "It counts several times in training and in the evaluation.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A finding in one image, or among several.

    Attributes:
        finding: a name of `CHECKS` or `COPIES`; or "excluded", for a file that is not in the examples.
        filenames: one name; or the names of copies, of which the first two are the pair that shows the finding best.
        splits: the split of each; empty for an excluded file.
        labels: the label of each; empty for an excluded file.
        value: what was measured; for copies, how their gradients correlate, 1.0 for equal files; for an excluded file,
            the reason.
        threshold: what the value was compared with.
        how: for copies, "identical" (files), "alike" (also cropped), "mirrored" or "turned" (by quarters, or flipped);
            "" for one image.
    """

    finding: str
    filenames: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    value: float | str
    threshold: float | str
    how: str = ""


@dataclasses.dataclass(frozen=True)
class Scan:
    """The outcome of a scan.

    Attributes:
        images: the number of images.
        findings: in the order of `COPIES` and `CHECKS`, the worst of each first; excluded files come last.
        usual: finding → images, where so many images show it that it is usual here; these are no findings.
    """

    images: int
    findings: tuple[Finding, ...]
    usual: Mapping[str, int]

    def groups(self) -> dict[Finding, int]:
        """Return the number of each group of copies, from 1; the list to edit and the page use these numbers."""
        return {finding: number for number, finding in enumerate((one for one in self.findings if one.how), start=1)}


def scan_warnings(scan: Scan, page: object) -> list[str]:
    """Return what to know before training, a line for each kind of finding.

    Args:
        scan: the findings.
        page: where the pictures are shown, for the lines.
    """
    titles = {kind.name: kind.title for kind in (*COPIES, *CHECKS)}
    units = {kind.name: "group" for kind in COPIES}
    lines = []
    for name in _WARNED_OF:
        if name in scan.usual:
            lines.append(f"{titles[name]}: {scan.usual[name]} of {scan.images} images")
        elif count := sum(finding.finding == name for finding in scan.findings):
            unit = units.get(name, "image") + "s" * (count != 1)
            lines.append(f"{titles[name]}: {count} {unit}, see {page}#{name}")
    return lines
