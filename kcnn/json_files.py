"""The program's own small files of facts, mostly JSON: what lies in their place may be damaged, or anything else."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kcnn.documents import LARGEST, parse_json
from kcnn.errors import UserError
from kcnn.regular_files import read_regular
from kcnn.terminal import print_lines

_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


class DamagedFileError(UserError):
    """A file that is there and cannot be read as what it should be: its path, and why."""


def read_small_file(path: Path) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: there is nothing.
        DamagedFileError: there is something else than a file of `LARGEST` bytes that can be read.
    """
    try:
        return read_regular(path, LARGEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        if path.is_symlink():
            raise DamagedFileError(f"{path}: damaged: a link to nothing") from None
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from None
    except (OSError, ValueError) as error:  # a name that no file can have
        raise DamagedFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def read_small_text(path: Path) -> str:
    """Return the content of a file of UTF-8; raise as `read_small_file`."""
    try:
        return read_small_file(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFileError(f"{path}: damaged: no UTF-8: {error.reason} at byte {error.start}") from None


def read_json(path: Path, kind: type = dict) -> Any:
    """Return what a file of JSON holds: an object, or another `kind`.

    Raises:
        FileNotFoundError: there is nothing.
        DamagedFileError: it cannot be read, is no JSON, is beyond a limit, or is of another kind.
    """
    text = read_small_text(path)
    try:
        value = parse_json(text)
    except ValueError as error:
        raise DamagedFileError(f"{path}: damaged: {error}") from None
    if not isinstance(value, kind):
        raise DamagedFileError(f"{path}: damaged: expected {_KINDS[kind]} of JSON")
    return value


def warn_of_damage(lines: Iterable[str]) -> None:
    """Print a warning for each line about a damaged file."""
    for line in lines:
        print_lines(f"Warning: {line}", file=sys.stderr)
