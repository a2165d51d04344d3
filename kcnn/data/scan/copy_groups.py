"""Groups of images that are copies of one another: leaks, contradictions and plain duplicates."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kcnn.data.scan import copies
from kcnn.data.scan.checks import BLANK
from kcnn.data.scan.findings import COPIES, Finding
from kcnn.data.scan.scanned_images import ScannedImage

_Rank = tuple[bool, bool, float, int, int]  # by which groups are sorted


class _Link(NamedTuple):
    """Two images, by their index, that are copies."""

    one: int
    other: int
    score: float
    threshold: float
    how: str


def group_copies(images: Sequence[ScannedImage]) -> Iterator[Finding]:
    """Yield the groups of copies, in the order of `COPIES`, the worst of each first.

    Args:
        images: all images, in the order in which groups name theirs.
    """
    links = _link_copies(images)
    if not links:
        return
    ends = np.array([(link.one, link.other) for link in links]).T
    graph = coo_array((np.ones(len(links), bool), (ends[0], ends[1])), shape=(len(images), len(images)))
    component = connected_components(graph, directed=False)[1]
    members_of, links_of = defaultdict(list), defaultdict(list)
    for index in np.unique(ends).tolist():
        members_of[component[index]].append(index)
    for link in links:
        links_of[component[link.one]].append(link)
    found: dict[str, list[tuple[_Rank, Finding]]] = {kind.name: [] for kind in COPIES}
    for key, members in members_of.items():
        for name, kept in (
            ("leak", [link for link in links_of[key] if images[link.one].split != images[link.other].split]),
            ("contradiction", [link for link in links_of[key] if images[link.one].label != images[link.other].label]),
            ("duplicate", links_of[key] if len(_one_of_each(members, images)) == 1 else []),
        ):
            if kept:
                found[name].append(_ranked_finding(name, members, kept, images))
    for ranked in found.values():
        yield from (finding for _, finding in sorted(ranked, key=lambda group: group[0]))


def _link_copies(images: Sequence[ScannedImage]) -> list[_Link]:
    """Return pairs of copies, by index: equal files, and pictures that look alike."""
    first: dict[bytes, int] = {}
    links: list[_Link] = []
    same: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(images):
        same[first.setdefault(one.digest, index)].append(index)
    for members in same.values():
        links += [_Link(members[0], other, 1.0, 1.0, "identical") for other in members[1:]]
    # In images smaller than a thumbnail, two straight strokes look alike and are no copies.
    candidates = [
        i
        for i in first.values()
        if images[i].thumbnail
        and images[i].deviation >= BLANK
        and min(images[i].height, images[i].width) >= copies.SIDE
    ]
    thumbnails = np.frombuffer(b"".join(images[i].thumbnail for i in candidates), np.uint8)
    near = copies.find_copies(thumbnails.reshape(-1, copies.SIDE, copies.SIDE))
    for (a, b), score, threshold, turn in zip(*(part.tolist() for part in near), strict=True):
        how = ("alike", "mirrored", "turned")[min(turn, 2)]
        # All files equal to the one are copies of all that equal the other; one of each split and label is enough.
        for left in _one_of_each(same[candidates[a]], images):
            links += [_Link(left, right, score, threshold, how) for right in _one_of_each(same[candidates[b]], images)]
    return links


def _one_of_each(members: Sequence[int], images: Sequence[ScannedImage]) -> list[int]:
    """Return one member of each split and label."""
    return list({(images[i].split, images[i].label): i for i in reversed(members)}.values())


def _ranked_finding(
    name: str, members: Sequence[int], links: Sequence[_Link], images: Sequence[ScannedImage]
) -> tuple[_Rank, Finding]:
    """Return the rank and the finding of a group.

    A group that train shares with test ranks first; equal files rank before similar ones.
    """

    def rank(link: _Link) -> _Rank:
        splits = {images[link.one].split, images[link.other].split}
        return (splits != {"train", "test"}, splits != {"train", "val"}, -link.score, link.one, link.other)

    best = min(links, key=rank)
    order = [best.one, best.other, *(i for i in members if i not in (best.one, best.other))]
    finding = Finding(
        name,
        tuple(images[i].filename for i in order),
        tuple(images[i].split for i in order),
        tuple(images[i].label for i in order),
        best.score,
        best.threshold,
        best.how,
    )
    return rank(best), finding
