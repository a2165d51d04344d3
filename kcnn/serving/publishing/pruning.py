"""Old versions of a published model are removed, by a rename each."""

import contextlib
import os
import platform
import shutil
from pathlib import Path

from kcnn.errors import UserError
from kcnn.serving.publishing.labels import assigned_labels
from kcnn.serving.publishing.versions import REMOVED_SUFFIX, list_versions

FEWEST = 2  # while a version appears, a server that has just started may still be reading the one before


def prune_versions(folder: Path, number: int) -> list[str]:
    """Remove all but the newest versions, the oldest first. Versions on which a label was put stay.

    Args:
        folder: the folder of the versions.
        number: how many versions stay, ≥ 2.

    Returns:
        The names of the removed versions.

    Raises:
        UserError: labels.json is damaged, and a label may be on one of them.
        ValueError: `number` is less than 2: a server may be reading the version before the last.
    """
    if number < FEWEST:
        raise ValueError(f"{number} versions to keep: expected {FEWEST} or more")
    assigned = assigned_labels(folder)
    if assigned.lost:
        raise UserError(f"{assigned.damage[0]}: no version is removed")
    removed, labelled = [], set(assigned.numbers.values())
    for version in list_versions(folder)[:-number]:
        if int(version.name) in labelled:
            continue
        hidden = folder / f".{version.name}.{platform.node()}.{os.getpid()}{REMOVED_SUFFIX}"
        with contextlib.suppress(FileNotFoundError):  # another run was quicker
            version.rename(hidden)
            removed.append(version.name)
            shutil.rmtree(hidden, ignore_errors=True)
    return removed
