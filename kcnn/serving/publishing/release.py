"""`python main.py label` and `rollback`: which versions of a published model clients get."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from kcnn.errors import UserError
from kcnn.serving.publishing import bundle, versions


def label(folder: Path, settings: Sequence[str]) -> None:
    """Puts labels on versions, writes the bundle's configuration anew, and prints the versions.

    Args:
        folder: of the versions.
        settings: LABEL=VERSION each, or LABEL=highest; none to print only.

    Raises:
        UserError: there is no such label or version, or the folder cannot be written.
    """
    changes = dict(map(_parsed, settings))
    if changes:
        with _changing(folder):
            versions.label(folder, changes)
            bundle.write(folder)
    print(versions.table(folder))


def rollback(folder: Path, number: int, command: str) -> None:
    """Publishes an earlier version again, writes the bundle's configuration anew, and prints the versions.

    Args:
        folder: of the versions.
        number: the version to go back to.
        command: for the card.

    Raises:
        UserError: there is no such version, it is served already, or the folder cannot be written.
    """
    with _changing(folder):
        version = versions.rollback(folder, number, command)
        print(f"Published: {version}, a copy of {folder / str(number)}", flush=True)
        bundle.write(folder)
    print(versions.table(folder))


def _parsed(setting: str) -> tuple[str, int | None]:
    name, _, number = setting.partition("=")
    if number != "highest" and not number.isdecimal():
        raise UserError(f"label {setting!r}: expected LABEL=VERSION, as in stable=3, or LABEL=highest")
    return name, None if number == "highest" else int(number)


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """Within it, what cannot be written is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
