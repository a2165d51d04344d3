"""`python main.py label` and `rollback`: users choose the versions that clients get."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from kcnn.errors import UserError, shortened
from kcnn.json_files import warn_of_damage
from kcnn.serving.publishing.bundle import write_bundle
from kcnn.serving.publishing.card import read_card
from kcnn.serving.publishing.labels import assign_labels, assigned_labels, current_labels
from kcnn.serving.publishing.rollback import original_number, republish_version
from kcnn.serving.publishing.versions import list_versions, version_number
from kcnn.tables import aligned
from kcnn.terminal import print_lines


def label_versions(folder: Path, assignments: Sequence[str]) -> None:
    """Put labels on versions, write the bundle's configuration anew, and print the versions.

    Args:
        folder: the folder of the versions.
        assignments: LABEL=VERSION each, or LABEL=highest; none to print only.

    Raises:
        UserError: there is no such label or version, or the folder cannot be written.
    """
    changes = dict(map(_parse_assignment, assignments))
    _tell_damage(folder)
    if changes:
        with _writing(folder):
            assign_labels(folder, changes)
            write_bundle(folder)
    print_lines(*versions_table(folder))


def roll_back(folder: Path, number: int, command: str) -> None:
    """Publish an earlier version again, write the bundle's configuration anew, and print the versions.

    Args:
        folder: the folder of the versions.
        number: the version to go back to.
        command: the command line, for the card.

    Raises:
        UserError: there is no such version, it is served already, or the folder cannot be written.
    """
    _tell_damage(folder)
    with _writing(folder):
        version = republish_version(folder, number, command)
        print_lines(f"Published: {version}, a copy of {folder / str(number)}")
        write_bundle(folder)
    print_lines(*versions_table(folder))


def versions_table(folder: Path) -> list[str]:
    """Return the versions as a table for people, a line each: number, labels, and the version that it is a copy of."""
    standing = current_labels(folder)
    rows = []
    for version in list_versions(folder):
        on = [name for name, number in standing.items() if number == int(version.name)]
        copied = original_number(version, read_card(version))
        rows.append((version.name, ", ".join(on), f"copy of {copied}" if copied != int(version.name) else ""))
    number, *rest = rows[-1]
    return aligned([("version", "labels", ""), *rows[:-1], (f"{number} (served)", *rest)])


def _parse_assignment(assignment: str) -> tuple[str, int | None]:
    name, _, given = assignment.partition("=")
    number = version_number(given)
    if given != "highest" and number is None:
        raise UserError(f"label {shortened(assignment)!r}: expected LABEL=VERSION, as in stable=3, or LABEL=highest")
    return name, number


def _tell_damage(folder: Path) -> None:
    """Print what is damaged of the small files of the versions; all commands go on without it."""
    warn_of_damage([line for version in list_versions(folder) for line in read_card(version).damage])
    warn_of_damage(assigned_labels(folder).damage)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Turn errors of reading and writing into UserError."""
    try:
        yield
    except shutil.Error as error:  # of a copy: source, target and reason of each
        source, _, reason = error.args[0][0]
        raise UserError(f"{folder}: cannot be written: {source}: {reason}") from None
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{folder}: cannot be written: {f'{error.filename}: ' if error.filename else ''}{reason}"
        ) from None
