"""CSV that people open in a spreadsheet, where a cell that begins with a sign such as = is a formula and runs.

All CSV that the program writes is of this kind, with a ' before such a text, which then is shown as it is. A program
that reads it takes the ' away (`unmarked`); JSON holds each text unchanged.
"""

import csv
import io
import itertools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kcnn.terminal import one_line

# Some languages write the signs wide. A sign alone runs nothing. A ' that is there already gets another, so that one
# can be taken away.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20].", re.DOTALL)
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV file; file names that are no UTF-8 come out as they came in.

    Args:
        path: the file.
        header: the names of the columns.
        rows: the cells of each row: texts, numbers, and None for an empty cell.
    """
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows(map(_marked, itertools.chain([header], rows)))


def csv_line(cells: Iterable[str]) -> str:
    """Return a row as a line of CSV for standard output, in which each cell is one line."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(_marked(map(one_line, cells)))
    return line.getvalue()


def _marked(cells: Iterable[Any]) -> list[Any]:
    """Put a ' before each text that a spreadsheet takes for a formula."""
    return [f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell for cell in cells]


def _is_formula(cell: str) -> bool:
    return bool(_FORMULA.match(cell)) and not _NUMBER.fullmatch(cell)


def unmarked(cell: str) -> str:
    """Return the text that was written as this cell."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
