"""Text files that users write, tables and lists, as editors and spreadsheets save them.

They are UTF-8, or UTF-16 or UTF-32 where the first bytes say so, with any line ends and any byte order marks.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kcnn.errors import UserError

COMMA, SPACE = ",", " "
SEPARATORS = ("\t", COMMA, ";", "|")  # SPACE is tried where none of these will do
_MARK = "\ufeff"
_MARKS = (  # UTF-32 first: its mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_LINE = 2**20  # letters; a cell of a table may have an eighth of them
_LOOK = 256  # bytes in which an encoding shows
_EXCEL = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)  # Excel's first line names the separator
_IMAGE = re.compile(r".+\.(jpe?g|jfif|png|gif|bmp|dib|webp|tiff?|heic|jxl|avif)", re.IGNORECASE)


class TextRow(NamedTuple):
    """A row that is not empty: the number of the line that it begins on, and its cells."""

    line: int
    cells: list[str]


def decode_lines(file: io.BufferedReader, origin: str) -> Iterator[str]:
    """Yield the lines of a text file with their line ends; lines of a pipe come as they are written.

    Bytes that are no UTF-8, which file names may hold, become surrogates, as `os.fsdecode` makes them.

    Args:
        file: the file at its beginning, opened for bytes.
        origin: begins the message of an error, such as "--exclude a.csv".

    Raises:
        UserError: the file begins like UTF-16 or UTF-32 and is not, or a line is longer than LONGEST_LINE.
        OSError: the file cannot be read.
    """
    encoding = _find_encoding(file.peek(_LOOK)[:_LOOK])
    errors = "surrogateescape" if encoding == "utf-8" else "strict"
    try:
        text = io.TextIOWrapper(file, encoding, errors, newline="")
        while line := text.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise UserError(f"{origin}: a line of more than {LONGEST_LINE:,} letters; expected lines of text")
            yield line.lstrip(_MARK)  # files that were joined have a mark each
    except UnicodeError:
        raise UserError(f"{origin}: begins like {encoding.upper()} and is none; expected UTF-8") from None


def _find_encoding(beginning: bytes) -> str:
    for mark, encoding in _MARKS:
        if beginning.startswith(mark):
            return encoding
    # Without a mark, Latin letters of UTF-16 show: every second byte is 0.
    even, odd = beginning[::2].count(0), beginning[1::2].count(0)
    if max(even, odd) * 4 > len(beginning) and not min(even, odd):
        return "utf-16-le" if odd else "utf-16-be"
    return "utf-8"


def check_text(lines: Iterable[str], origin: str, expected: str, *, any_bytes: bool = False) -> Iterator[str]:
    """Yield the lines.

    Args:
        lines: as `decode_lines` yields them.
        origin: begins the message of an error.
        expected: ends the message of an error.
        any_bytes: whether bytes that are no UTF-8 are taken.

    Raises:
        UserError: a line holds a NUL, or bytes that are no UTF-8.
    """
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise UserError(f"{origin}, line {number}: a NUL character; expected {expected}")
        if not any_bytes and not line.isascii() and not _is_unicode(line):
            raise UserError(f"{origin}, line {number}: bytes that are not UTF-8; expected {expected}, saved as UTF-8")
        yield line


def _is_unicode(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def split_rows(lines: Iterable[str], origin: str, separator: str, *, skip_blanks: bool = False) -> Iterator[TextRow]:
    """Yield the rows of a table; empty lines and a first line such as Excel's "sep=;" are none.

    A cell in quotation marks may hold separators and line breaks, and marks that are doubled.

    Args:
        lines: the lines, with their line ends.
        origin: begins the message of an error.
        separator: one character.
        skip_blanks: whether cells begin after blanks, which stand before quotation marks in some tables.

    Raises:
        UserError: a quotation mark that begins a cell has no end, or something follows the end.
    """
    rows = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=skip_blanks)
    line = 1
    try:
        for cells in rows:
            if any(map(str.strip, cells)) and not (line == 1 and named_separator(separator.join(cells))):
                yield TextRow(line, cells)
            line = rows.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{origin}, line {line}: a quotation mark begins a cell and does not end it ({error}); expected the whole "
            'cell between two marks, and each mark in it doubled ("")'
        ) from None


def is_comment(text: str) -> bool:
    """Return whether a row whose first cell is `text` is a comment: a #, alone or before a blank."""
    return text.rstrip() == "#" or text.startswith("# ")


def split_line(line: str, separator: str) -> list[str]:
    """Return the cells of one line, without blanks around them; a quotation mark need not have an end."""
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator), [])]
    except csv.Error:  # a cell longer than any
        return []


def named_separator(line: str) -> str | None:
    """Return the separator that a first line such as Excel's "sep=;" names; None for any other line."""
    found = _EXCEL.fullmatch(line)
    return found and found[1]


def has_swallowed_row(cells: Iterable[str], separator: str, column: int) -> bool:
    """Return whether a cell of several lines holds what looks like further rows.

    Marks that stand alone in two rows enclose what is between them.

    Args:
        cells: the cells of a row.
        separator: the table's.
        column: the number of the column that names images, from 0.
    """
    further = (split_line(line, separator) for cell in cells for line in cell.splitlines()[1:])
    return any(len(row) > max(column, 1) and is_image_name(row[column]) for row in further)


def is_image_name(text: str) -> bool:
    """Return whether `text` ends like an image's file name."""
    return _IMAGE.fullmatch(text) is not None
