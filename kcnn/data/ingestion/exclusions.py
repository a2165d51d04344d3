"""Lists of images to leave out: a scan's `exclusions.csv`, an audit's `label_errors.csv`, or other CSV files.

    filename,finding,exclude
    train/cat/a.jpg,leak,x
    train/dog/b.jpg,blank,

A row whose `exclude` is not empty leaves its image out; a "no" there is refused. Other rows and columns have no effect.
Spreadsheets may save it with their own separator and encoding. No file is deleted.
"""

import dataclasses
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from kcnn.content import sha256
from kcnn.data.datasets import Dataset, ImageSource, digest_parts
from kcnn.data.text_files import (
    COMMA,
    SEPARATORS,
    TextRow,
    check_text,
    decode_lines,
    has_swallowed_row,
    is_comment,
    named_separator,
    split_line,
    split_rows,
)
from kcnn.errors import UserError
from kcnn.regular_files import open_regular
from kcnn.spreadsheets import unmarked

_COLUMNS = "filename,finding,exclude"
_NAMED = 3  # unknown files, in an error
_SHOWN = 80  # characters of a header, in an error
_NO = ("0", "f", "false", "n", "no")  # these could mean to keep the image


def read_exclusions(path: Path) -> dict[str, str]:
    """Read a list: filename → finding, "" where the list names none, of the rows that exclude.

    Raises:
        UserError: the list cannot be read, is no CSV, lacks a column, has a row that does not fit its columns, or has a
            "no" in its column exclude.
    """
    origin = f"--exclude {path}"
    try:
        with open_regular(path) as file:
            # File names may hold bytes that are no UTF-8, as the list of a scan has them.
            lines = list(check_text(decode_lines(file, origin), origin, f"a CSV file of {_COLUMNS}", any_bytes=True))
    except OSError as error:
        raise UserError(f"{origin}: cannot be read: {error.strerror}") from None
    separator = _find_separator(lines)
    rows = (row for row in split_rows(lines, origin, separator) if not is_comment(row.cells[0]))
    columns = _simple(next(rows, TextRow(1, [])).cells)
    for column in ("filename", "exclude"):
        if columns.count(column) > 1:
            raise UserError(f"{origin}: two columns are called {column!r}; expected {_COLUMNS}")
        if column not in columns:
            got = ascii(",".join(columns)[:_SHOWN]) if columns else "an empty file"
            raise UserError(f"{origin}: no column {column!r}: expected {_COLUMNS}, got {got}")
    found: dict[str, list[str]] = {}
    for line, cells in rows:
        if len(cells) < len(columns) or any(cells[len(columns) :]):
            raise UserError(
                f"{origin}, line {line}: {len(cells)} columns; expected {len(columns)}, as its first line, and "
                f"quotation marks around a cell that holds a {separator!r}"
            )
        if has_swallowed_row(cells, separator, columns.index("filename")):
            raise UserError(
                f"{origin}, line {line}: a cell that begins with a quotation mark goes on over what looks like other "
                "rows; expected each mark in a cell doubled, and the cell between two marks"
            )
        row = dict(zip(columns, cells, strict=False))
        mark = row["exclude"].strip()
        if mark.lower() in _NO:
            raise UserError(
                f"{origin}, line {line}: {mark!r} in column exclude: expected anything else to leave the image out, or "
                "nothing to take it"
            )
        if mark and not row["filename"].strip():
            raise UserError(f"{origin}, line {line}: no filename; expected {_COLUMNS}")
        if mark:
            found.setdefault(row["filename"], []).append(row.get("finding", ""))
    return {name: ", ".join(dict.fromkeys(filter(None, findings))) for name, findings in found.items()}


def _find_separator(lines: Sequence[str]) -> str:
    """Return the separator by which a line of a list names its columns."""
    for line in lines:
        if separator := named_separator(line.strip("\r\n")):
            return separator
        for separator in SEPARATORS:
            if {"filename", "exclude"} <= {*_simple(split_line(line, separator))}:
                return separator
        if line.strip() and not is_comment(line.split(maxsplit=1)[0]):
            break
    return COMMA


def _simple(names: Iterable[str]) -> list[str]:
    return [name.strip().lower() for name in names]


def digest_exclusions(paths: Sequence[str | Path]) -> str:
    """Return the SHA-256 of each list's bytes, separated by spaces; "" without lists.

    Raises:
        UserError: a list cannot be read.
    """
    found = []
    for path in paths:
        try:
            found.append(sha256(Path(path)))
        except OSError as error:
            raise UserError(f"--exclude {path}: cannot be read: {error.strerror}") from None
    return " ".join(found)


def exclude_images(dataset: Dataset, paths: Sequence[str | Path]) -> Dataset:
    """Return the data set without labels for the images of the lists, and with the lists as the reason.

    Raises:
        UserError: as `read_exclusions` does; or a list names a file that is not in the data set.
    """
    if not paths:
        return dataset
    known = {source.filename for source in dataset.sources()}
    lists = {
        path: {_as_known(name, known): finding for name, finding in read_exclusions(Path(path)).items()}
        for path in paths
    }
    listed: dict[str, list[str]] = {}
    for path, names in lists.items():
        if unknown := [name for name in names if name not in known]:
            raise UserError(f"--exclude {path}: {_unknown(unknown, dataset)}")
        for name, finding in names.items():
            listed.setdefault(name, []).append(": ".join(filter(None, (f"excluded by {path}", finding))))

    def left_out(source: ImageSource) -> ImageSource:
        if source.filename not in listed:
            return source
        return dataclasses.replace(source, label=None, reason="; ".join(listed[source.filename]))

    def sources() -> Iterator[ImageSource]:
        yield from map(left_out, dataset.sources())

    return dataclasses.replace(
        dataset,
        sources=sources,
        # The names of the lists do not count.
        fingerprint=digest_parts(
            [dataset.fingerprint, "excluded", sorted({pair for names in lists.values() for pair in names.items()})]
        ),
    )


def _as_known(name: str, known: Container[str]) -> str:
    """Return the name of an image as the data set has it: what the program lists may have a ' before it."""
    plain = unmarked(name)
    return plain if plain in known else name


def _unknown(names: list[str], dataset: Dataset) -> str:
    known = [source.filename for source in dataset.sources() if _last(source.filename) == _last(names[0])]
    first = next(iter(dataset.sources())).filename
    hint = f"did you mean {known[0]}?" if known else f"its files have names like {first}"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"not in --dataset {dataset.name}: {', '.join(names[:_NAMED])}{more}; {hint}"


def _last(filename: str) -> str:
    return filename.rpartition("/")[2]
