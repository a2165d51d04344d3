"""A scan for what hurts image classifiers: odd and poor images, and copies within and across the splits.

A shard is reduced to the facts of its images (`scanned_images`). The findings follow from all facts together, and are
the same however the images are spread over shards. Files that cannot be decoded at all are not in the examples.
"""

import dataclasses
import operator
from collections.abc import Iterable, Mapping, Sequence

from kcnn.data.drivers import Driver
from kcnn.data.records import SPLITS, map_shards
from kcnn.data.scan.checks import CHECKS, ImageCheck, Norms
from kcnn.data.scan.copy_groups import group_copies
from kcnn.data.scan.findings import Finding, Scan
from kcnn.data.scan.scanned_images import ScannedImage, scan_records

_USUAL = 0.5  # a finding in more than this share of the images belongs to the data set's nature


def scan_shards(
    shards: Mapping[str, Sequence[str]],
    total: int | None = None,
    excluded: Mapping[str, str] | None = None,
    driver: Driver | None = None,
) -> Scan:
    """Scan the images of all splits, each once.

    Args:
        shards: split → its files.
        total: how many examples the files hold, for the progress bar.
        excluded: filename → reason of the files that could not become an example; repeated among the findings.
        driver: runs the scan; a driver on this machine when None.

    Raises:
        UserError: a file is damaged.
    """
    parts = map_shards(scan_records, shards, total=total, description="Scanning images", driver=driver)
    found = judge_images(dataclasses.replace(image, split=split) for split, images in parts for image in images)
    more = (Finding("excluded", (name,), (), (), reason, "") for name, reason in sorted((excluded or {}).items()))
    return dataclasses.replace(found, findings=(*found.findings, *more))


def judge_images(images: Iterable[ScannedImage]) -> Scan:
    """Find the faults of images from their facts, in any order."""
    place = {split: number for number, split in enumerate(SPLITS)}
    ordered = sorted(images, key=lambda one: (place.get(one.split, len(SPLITS)), one.split, one.filename))
    norms = Norms.of(ordered)
    findings, usual = list(group_copies(ordered)), {}
    for check in CHECKS:
        found = _apply_check(check, ordered, norms)
        if check.usual and len(found) > _USUAL * len(ordered):
            usual[check.name] = len(found)
        else:
            findings += found
    return Scan(len(ordered), tuple(findings), usual)


def _apply_check(check: ImageCheck, images: Sequence[ScannedImage], norms: Norms) -> list[Finding]:
    found = []
    for one in images:
        value, limit = check.value(one), check.limit(one, norms)
        if value is not None and limit is not None and check.bad(value, limit):
            found.append(Finding(check.name, (one.filename,), (one.split,), (one.label,), value, limit))
    if check.bad is operator.gt:
        found.sort(key=lambda finding: finding.value, reverse=True)
    elif check.bad is operator.lt:
        found.sort(key=lambda finding: finding.value)
    return found
