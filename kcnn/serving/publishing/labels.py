"""The labels "stable" and "canary" of versions, which clients may ask for instead of a number.

A label stands on the highest version until `assign_labels` puts it on another. The file <folder>/labels.json holds the
labels that were put on a version: label → number.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from kcnn.documents import parse_json, read_document
from kcnn.errors import UserError, nearest
from kcnn.serving.publishing.folder_files import lock_folder, replace_file
from kcnn.serving.publishing.versions import check_version, complete_versions

LABELS = ("stable", "canary")
_FILE = "labels.json"


def current_labels(folder: Path) -> dict[str, int]:
    """Return the version on which each label stands; nothing where there are no versions."""
    there = complete_versions(folder)
    if not there:
        return {}
    assigned = assigned_labels(folder)
    return {label: assigned.get(label, int(there[-1].name)) for label in LABELS}


def assigned_labels(folder: Path) -> dict[str, int]:
    """Return the labels that were put on a version that still exists.

    Raises:
        UserError: labels.json holds something else.
    """
    path = folder / _FILE
    try:
        assigned = {name: int(number) for name, number in parse_json(read_document(path)).items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise UserError(f'{path}: expected labels and versions, as in {{"stable": 3}}') from None
    return {name: number for name, number in assigned.items() if (folder / str(number)).is_dir()}


def assign_labels(folder: Path, changes: Mapping[str, int | None]) -> dict[str, int]:
    """Put labels on versions and return the version on which each label stands.

    Args:
        folder: the folder of the versions.
        changes: label → number of a version; None for the highest version, also when a newer one comes.

    Raises:
        UserError: there is no such version or label.
    """
    for name, number in changes.items():
        if name not in LABELS:
            raise UserError(f"label {name!r}: {nearest(name, LABELS)}")
        if number is not None:
            check_version(folder, number)
    if changes:
        with lock_folder(folder):
            write_labels(folder, {**assigned_labels(folder), **changes})
    return current_labels(folder)


def write_labels(folder: Path, numbers: Mapping[str, int | None]) -> None:
    """Write labels.json, without the labels whose number is None. The caller holds `lock_folder`."""
    kept = {name: number for name, number in sorted(numbers.items()) if number is not None}
    replace_file(folder / _FILE, json.dumps(kept, indent=2) + "\n")
