"""The labels "stable" and "canary" of versions, which clients may ask for instead of a number.

A label stands on the highest version until `assign_labels` puts it on another. The file <folder>/labels.json holds the
labels that were put on a version: label → number. Where it is damaged, a label stands where models.config, the file for
TensorFlow Serving, last had it: no label moves by itself to a version that was not tried.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorflow_serving.config import model_server_config_pb2

from kcnn.documents import parse_prototext
from kcnn.errors import UserError, nearest
from kcnn.json_files import DamagedFileError, read_json, read_small_text
from kcnn.serving.publishing.folder_files import lock_folder, replace_file, set_aside
from kcnn.serving.publishing.versions import check_version, complete_versions, list_versions, version_number

LABELS = ("stable", "canary")
_FILE = "labels.json"
_TOLD = 3  # damaged entries that are named


@dataclasses.dataclass(frozen=True)
class AssignedLabels:
    """What is known of the labels that were put on a version.

    Attributes:
        numbers: label → number of a version that exists.
        lost: the labels of which nothing is known.
        damage: what is not sound in labels.json, a line each.
    """

    numbers: dict[str, int]
    lost: frozenset[str] = frozenset()
    damage: tuple[str, ...] = ()


def current_labels(folder: Path) -> dict[str, int]:
    """Return the version on which each label stands; nothing where there are no versions.

    A label is missing where labels.json is damaged and models.config does not know it either.
    """
    there = complete_versions(folder)
    if not there:
        return {}
    assigned = assigned_labels(folder)
    return {label: assigned.numbers.get(label, int(there[-1].name)) for label in LABELS if label not in assigned.lost}


def assigned_labels(folder: Path) -> AssignedLabels:
    """Return the labels that were put on a version that still exists, and what is damaged in labels.json."""
    path = folder / _FILE
    try:
        entries = read_json(path)
    except FileNotFoundError:
        return AssignedLabels({})
    except DamagedFileError as error:
        entries, damage, unsound = {}, [str(error)], set(LABELS)
    else:
        unsound = {label for label, number in entries.items() if _number(number) is None}
        named = sorted(unsound, key=lambda label: (label not in LABELS, label))[:_TOLD]
        damage = [f"{path}: damaged: {label[:40]}: expected the number of a version" for label in named]
    known = read_served_labels(folder) if damage else {}
    found = {label: _number(number) for label, number in entries.items() if label not in unsound}
    found |= {label: known[label] for label in unsound if label in known}
    lost = frozenset(unsound) & set(LABELS) - known.keys()
    if damage:
        told = [f"{label} stands where models.config has it" for label in LABELS if label in unsound and label in known]
        told += [f"{label} is unknown until `label` puts it on a version" for label in sorted(lost)]
        damage.append(f"{path}: {'; '.join(told) or 'no label is lost'}")
    there = {version.name for version in list_versions(folder) if version.is_dir()}
    numbers = {label: number for label, number in found.items() if number and str(number) in there}
    return AssignedLabels(numbers, lost, tuple(damage))


def _number(value: Any) -> int | None:
    """Return the number of a version, which people may have written as text."""
    return None if isinstance(value, bool | float | dict | list) else version_number(str(value))


def read_served_labels(folder: Path) -> dict[str, int]:
    """Return label → version in the present models.config; nothing where it cannot be read."""
    try:
        config = parse_prototext(read_small_text(folder / "models.config"), model_server_config_pb2.ModelServerConfig())
    except (OSError, ValueError):
        return {}
    return {
        label: number for model in config.model_config_list.config for label, number in model.version_labels.items()
    }


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
            write_labels(folder, changes)
    return current_labels(folder)


def write_labels(folder: Path, changes: Mapping[str, int | None]) -> None:
    """Write labels.json with changes, None to take a label off; a damaged one is put aside.

    The caller holds `lock_folder`.
    """
    assigned = assigned_labels(folder)
    if assigned.damage:
        set_aside(folder / _FILE)
    kept = {name: number for name, number in sorted({**assigned.numbers, **changes}.items()) if number is not None}
    replace_file(folder / _FILE, json.dumps(kept, indent=2) + "\n")
