"""What hurts image classifiers, found image by image: odd and poor pictures, and copies within and across the splits.

A shard is reduced to the facts of its images; findings follow from all facts together, and are the same however the
images are spread over shards. What cannot be decoded at all was excluded when the examples were made.
"""

import dataclasses
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kcnn.data.drivers import Driver
from kcnn.data.records import map_shards
from kcnn.data.scan import copies
from kcnn.data.scan.checks import BLANK, CHECKS, Check, Norms
from kcnn.data.scan.looks import Look, collect

USUAL = 0.5  # what more than this share of the images shows is the data set's nature and nobody's finding


@dataclasses.dataclass(frozen=True)
class Copies:
    """A relation between copies of one picture.

    Attributes:
        name: of the finding.
        title: for people.
        reason: why it matters.
    """

    name: str
    title: str
    reason: str


COPIES = (
    Copies(
        "leak",
        "Leaks: one picture in several splits",
        "What was trained on is no test: the measured accuracy flatters.",
    ),
    Copies(
        "contradiction",
        "Contradictions: one picture under several labels",
        "One of the labels is wrong, or the picture shows both: no answer can be right for all.",
    ),
    Copies(
        "duplicate",
        "Duplicates: one picture several times in a split",
        "It counts several times in training, and in an evaluation as if it were several pieces of evidence.",
    ),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found in an image, or among several.

    Attributes:
        finding: a name of `CHECKS` or `COPIES`; or "excluded", of a file that is not in the examples.
        filenames: one; or copies, of which the first two are the pair that shows the finding best.
        splits: of each; none of what is excluded.
        labels: likewise.
        value: what was measured; of copies, how their gradients correlate, 1.0 for equal files; why it is excluded.
        threshold: what it was compared with.
        how: of copies: "identical" (files), "alike" (also cropped), "mirrored" or "turned" (by quarters, or flipped);
            "" of one image.
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
    """What a scan found.

    Attributes:
        images: how many were looked at.
        findings: in the order of `COPIES` and `CHECKS`, the worst of each first; what is excluded comes last.
        usual: finding → images, of what more than `USUAL` of the images show; these are no findings.
    """

    images: int
    findings: tuple[Finding, ...]
    usual: Mapping[str, int]

    def groups(self) -> dict[Finding, int]:
        """The groups of copies, numbered from 1: so the list to edit and the page name them."""
        return {finding: number for number, finding in enumerate((one for one in self.findings if one.how), start=1)}


def scan(
    shards: Mapping[str, Sequence[str]],
    total: int | None = None,
    excluded: Mapping[str, str] | None = None,
    driver: Driver | None = None,
) -> Scan:
    """Looks at every image once.

    Args:
        shards: split → its files.
        total: how many examples they hold, for the progress bar.
        excluded: filename → reason, of what could not become an example; repeated among the findings.
        driver: what runs it; this machine when None.

    Raises:
        UserError: a file is damaged.
    """
    parts = map_shards(collect, shards, total=total, description="Scanning images", driver=driver)
    found = judge(dataclasses.replace(one, split=split) for split, looks in parts for one in looks)
    more = (Finding("excluded", (name,), (), (), reason, "") for name, reason in sorted((excluded or {}).items()))
    return dataclasses.replace(found, findings=(*found.findings, *more))


_REMARKED = ("leak", "contradiction", "damaged", "blank")


def remarks(scan: Scan, page: object) -> list[str]:
    """What to know before training, a line for each kind; `page` is where its pictures are."""
    titles = {kind.name: kind.title for kind in (*COPIES, *CHECKS)}
    units = {kind.name: "group" for kind in COPIES}
    lines = []
    for name in _REMARKED:
        if count := sum(finding.finding == name for finding in scan.findings):
            unit = units.get(name, "image") + "s" * (count != 1)
            lines.append(f"{titles[name]}: {count} {unit}, see {page}#{name}")
    return lines


def judge(looks: Iterable[Look]) -> Scan:
    """The findings in images whose facts these are, in any order."""
    ordered = sorted(looks, key=lambda one: (_ORDER.get(one.split, 3), one.split, one.filename))
    norms = Norms.of(ordered)
    findings, usual = list(groups(ordered)), {}
    for check in CHECKS:
        found = list(_check(check, ordered, norms))
        if len(found) > USUAL * len(ordered):
            usual[check.name] = len(found)
        else:
            findings += found
    return Scan(len(ordered), tuple(findings), usual)


_ORDER = {"train": 0, "val": 1, "test": 2}


def _check(check: Check, looks: Sequence[Look], norms: Norms) -> list[Finding]:
    found = []
    for one in looks:
        value, limit = check.value(one), check.limit(one, norms)
        if value is not None and limit is not None and check.bad(value, limit):
            found.append(Finding(check.name, (one.filename,), (one.split,), (one.label,), value, limit))
    if check.bad is operator.gt:
        found.sort(key=lambda finding: finding.value, reverse=True)
    elif check.bad is operator.lt:
        found.sort(key=lambda finding: finding.value)
    return found


class _Link(NamedTuple):
    """Two images, by their index, that are copies."""

    one: int
    other: int
    score: float
    threshold: float
    how: str


def groups(looks: Sequence[Look]) -> Iterator[Finding]:
    """Groups of images that are copies of one another: leaks, contradictions and plain duplicates.

    Args:
        looks: of all images, in the order in which groups name theirs.
    """
    first: dict[bytes, int] = {}
    links: list[_Link] = []
    same: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(looks):
        same[first.setdefault(one.digest, index)].append(index)
    for members in same.values():
        links += [_Link(members[0], other, 1.0, 1.0, "identical") for other in members[1:]]
    # Of less than a thumbnail's pixels, two straight strokes are alike and no copies.
    candidates = [
        i
        for i in first.values()
        if looks[i].thumbnail and looks[i].deviation >= BLANK and min(looks[i].height, looks[i].width) >= copies.SIDE
    ]
    thumbnails = np.frombuffer(b"".join(looks[i].thumbnail for i in candidates), np.uint8)
    near = copies.near(thumbnails.reshape(-1, copies.SIDE, copies.SIDE))
    for (a, b), score, threshold, turn in zip(*(part.tolist() for part in near), strict=True):
        how = ("alike", "mirrored", "turned")[min(turn, 2)]
        # All files equal to the one are copies of all that equal the other; one of each split and label will do.
        for left in _various(same[candidates[a]], looks):
            links += [_Link(left, right, score, threshold, how) for right in _various(same[candidates[b]], looks)]
    if not links:
        return
    ends = np.array([(link.one, link.other) for link in links]).T
    graph = coo_array((np.ones(len(links), bool), (ends[0], ends[1])), shape=(len(looks), len(looks)))
    component = connected_components(graph, directed=False)[1]
    members_of, links_of = defaultdict(list), defaultdict(list)
    for index in np.unique(ends).tolist():
        members_of[component[index]].append(index)
    for link in links:
        links_of[component[link.one]].append(link)
    found: dict[str, list[tuple[Any, Finding]]] = {kind.name: [] for kind in COPIES}
    for key, members in members_of.items():
        for name, kept in (
            ("leak", [link for link in links_of[key] if looks[link.one].split != looks[link.other].split]),
            ("contradiction", [link for link in links_of[key] if looks[link.one].label != looks[link.other].label]),
            ("duplicate", links_of[key] if len({(looks[i].split, looks[i].label) for i in members}) == 1 else []),
        ):
            if kept:
                found[name].append(_group(name, members, kept, looks))
    for ranked in found.values():
        yield from (finding for _, finding in sorted(ranked, key=lambda group: group[0]))


def _various(members: Sequence[int], looks: Sequence[Look]) -> list[int]:
    """One of each split and label."""
    return list({(looks[i].split, looks[i].label): i for i in reversed(members)}.values())


def _group(name: str, members: Sequence[int], links: Sequence[_Link], looks: Sequence[Look]) -> tuple[Any, Finding]:
    """The finding, behind what it is sorted by: what train shares with test first, equal files before similar ones."""

    def badness(link: _Link) -> Any:
        splits = {looks[link.one].split, looks[link.other].split}
        return (splits != {"train", "test"}, splits != {"train", "val"}, -link.score, link.one, link.other)

    best = min(links, key=badness)
    order = [best.one, best.other, *(i for i in members if i not in (best.one, best.other))]
    finding = Finding(
        name,
        tuple(looks[i].filename for i in order),
        tuple(looks[i].split for i in order),
        tuple(looks[i].label for i in order),
        best.score,
        best.threshold,
        best.how,
    )
    return badness(best), finding
