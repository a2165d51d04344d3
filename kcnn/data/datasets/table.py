"""A CSV or TSV file of path,label[,split].

The first line may name the columns, in any order, by these names or by others that are usual (`table_columns`).
Columns of other names stay with the image, for evaluation by slices. Without names the order is path, label, split,
unless the cells tell another. Paths are relative to the table's own folder, or to --data_dir.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kcnn.data.datasets import Dataset, ImageSource, digest_parts, split_name
from kcnn.data.datasets.image_folder import file_state, read_file
from kcnn.data.datasets.table_columns import EXPECTED, ROLES, TableColumns, read_rows, understand_columns
from kcnn.data.datasets.table_paths import find_files, find_folder, normalize_path
from kcnn.data.records import SPLITS
from kcnn.data.text_files import COMMA, check_text, decode_lines, has_swallowed_row
from kcnn.errors import UserError, nearest
from kcnn.regular_files import open_regular
from kcnn.terminal import one_line


class _TableRow(NamedTuple):
    """One line of a table; `label` and `split` may be "", `columns` has the other cells that are not empty."""

    line: int
    path: str
    label: str
    split: str
    columns: dict[str, str]


def _read_lines(path: Path, origin: str) -> Iterator[str]:
    """Yield the lines of the table at `path`.

    Raises:
        UserError: the file cannot be read or is no text.
    """
    expected = f"a directory, or a CSV or TSV file of {EXPECTED}"
    try:
        with open_regular(path) as file:
            yield from check_text(decode_lines(file, origin), origin, expected)
    except OSError as error:
        raise UserError(f"{origin}: cannot be read: {error.strerror}") from None


def _read_table(lines: Iterator[str], origin: str, columns: TableColumns, folder: str) -> Iterator[_TableRow]:
    """Yield the rows of a table.

    Raises:
        UserError: a row has too few or too many cells, or no path, or quotation marks do not match.
    """

    def is_file(cell: str) -> bool:
        return bool(find_files(folder, cell))

    rows = read_rows(lines, origin, columns.separator, len(columns.names), is_file)
    if columns.header:
        next(rows)
    column = columns.names.index("path")
    for line, cells in rows:
        where = f"{origin}, line {line}"
        filled = max(number for number, cell in enumerate(cells, start=1) if cell)
        if filled > len(columns.names):
            expected = ",".join(columns.names) if columns.header else f"{EXPECTED} or a first line that names them"
            raise UserError(
                f"{where}: {filled} columns; expected {expected}, and quotation marks around a cell that holds a "
                f"{columns.separator!r}"
            )
        if not columns.header and len(cells) < 2:
            raise UserError(f"{where}: {len(cells)} columns; expected {EXPECTED}")
        several = [cell for cell in cells if "\n" in cell or "\r" in cell]
        if several and (len(cells) < len(columns.names) or has_swallowed_row(several, columns.separator, column)):
            raise UserError(
                f"{where}: a cell that begins with a quotation mark goes on over {len(several[0].splitlines())} lines, "
                "with what looks like other rows; expected each mark in a cell doubled, and the cell between two marks"
            )
        found = {name: cell for name, cell in zip(columns.names, cells, strict=False) if name and cell}
        path, label, split = (found.pop(role, "") for role in ROLES)
        if not path:
            raise UserError(f"{where}: no path; expected {EXPECTED}")
        if split and split_name(split) is None:
            raise UserError(f"{where}: unknown split {split!r}: {nearest(split, SPLITS)}")
        yield _TableRow(line, path, label, split, found)


def load(path: Path, data_dir: str | None = None) -> Dataset:
    """Open the images that the table at `path` lists.

    Args:
        path: the CSV or TSV file.
        data_dir: the folder that the table's paths are relative to; the table's own folder when None.

    Raises:
        UserError: the file is no such table, is in doubt, names an unknown split, or has no class.
    """
    folder = str(Path(data_dir).expanduser() if data_dir else path.parent)
    origin = f"--dataset {path}"
    open_lines = partial(_read_lines, path, origin)
    separator = "\t" if path.suffix.lower() in (".tsv", ".tab") else COMMA
    columns = understand_columns(open_lines, origin, separator, lambda cell: bool(find_files(folder, cell)))
    labels: set[str] = set()
    count = there = 0
    completed: list[str] = []  # the first name that is not as the table has it, and how it is there
    missing: list[str] = []  # the first path without a file

    def find(row: _TableRow) -> str:
        found = find_files(folder, row.path)
        if len(found) > 1:
            raise UserError(f"{origin}, line {row.line}: is {row.path!r} {' or '.join(found)}? Write which")
        return found[0] if found else normalize_path(row.path)

    def states() -> Iterator[tuple[object, ...]]:
        nonlocal count, there
        for row in _read_table(open_lines(), origin, columns, folder):
            count += 1
            labels.update([row.label] if row.label else [])
            name = find(row)
            if name != normalize_path(row.path) and not completed:
                completed.extend([row.path, name])
            state = file_state(os.path.join(folder, name))
            there += state[1] is not None
            if not missing and state[1] is None:
                missing.append(row.path)
            yield (*state, row.label, row.split, *row.columns.items())

    digest = digest_parts(states())
    if not labels:
        raise UserError(f"{origin}: no class in its {count} lines; expected lines of {EXPECTED}")

    def sources() -> Iterator[ImageSource]:
        for row in _read_table(open_lines(), origin, columns, folder):
            # Where each name is as the table has it, none is looked for again.
            name = find(row) if completed else normalize_path(row.path)
            read = partial(read_file, os.path.abspath(os.path.join(folder, name)))
            yield ImageSource(name, row.label or None, split_name(row.split), read, columns=row.columns)

    remarks = [f"{path.name}: {remark}" for remark in columns.remarks]
    if completed:
        remarks.append(one_line(f"{path.name}: names were completed, as {completed[0]} to {completed[1]}"))
    flaws = () if there else (_elsewhere(path, folder, count, missing[0]),)
    return Dataset(
        name=path.stem,
        labels=tuple(sorted(labels)),
        sources=sources,
        count=count,
        fingerprint=digest,
        flaws=flaws,
        remarks=tuple(remarks),
    )


def _elsewhere(path: Path, folder: str, count: int, missing: str) -> str:
    near = find_folder(folder, missing)
    return one_line(
        f"none of the {count} files that {path.name} lists is there, such as {missing}; expected paths relative to "
        f"{folder}" + (f"; did you mean --data_dir {near}?" if near else ", or to --data_dir")
    )
