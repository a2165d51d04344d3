"""A CSV or TSV file of path,label[,split].

The first line may name the columns, in any order. Columns of other names stay with the image, for evaluation by slices.
Without names the order is path, label, split. Paths are relative to the table's own folder, or to --data_dir.
"""

import csv
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from kcnn.data.datasets import Dataset, ImageSource, digest_parts, split_name
from kcnn.data.datasets.image_folder import file_state, read_file
from kcnn.data.records import SPLITS
from kcnn.errors import UserError, nearest

_COLUMNS = ("path", "label", "split")


class _TableRow(NamedTuple):
    """One line of a table; `label` and `split` may be "", `columns` has the other cells that are not empty."""

    line: int
    path: str
    label: str
    split: str
    columns: dict[str, str]


def _read_rows(path: Path) -> Iterator[_TableRow]:
    """Yield the rows of the table at `path`.

    Raises:
        UserError: the file cannot be read or is no such table.
    """
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter=delimiter)
            header = next(lines, None)
            if header is None:
                raise UserError(f"--dataset {path}: the table is empty; expected lines of path,label[,split]")
            lowered = [name.strip().lower() for name in header]
            named = {"path", "label"} <= set(lowered)
            names = [low if low in _COLUMNS else name.strip() for name, low in zip(header, lowered, strict=True)]
            twice = sorted({name for name in names if name and names.count(name) > 1})
            if named and twice:
                raise UserError(f"--dataset {path}, line 1: two columns are called {twice[0]!r}")
            if not named:
                names = list(_COLUMNS)
                file.seek(0)
                lines = csv.reader(file, delimiter=delimiter)
            for line in lines:
                if not any(map(str.strip, line)):
                    continue
                if not named and len(line) not in (2, 3):
                    raise UserError(
                        f"--dataset {path}, line {lines.line_num}: {len(line)} columns; expected path,label[,split]"
                    )
                cells = {name: cell.strip() for name, cell in zip(names, line, strict=False) if name and cell.strip()}
                first, label, split = (cells.pop(name, "") for name in _COLUMNS)
                yield _TableRow(lines.line_num, first, label, split, cells)
    except OSError as error:
        raise UserError(f"--dataset {path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"--dataset {path}: not a directory, nor a CSV or TSV file of path,label[,split] ({error})"
        ) from None


def load(path: Path, data_dir: str | None = None) -> Dataset:
    """Open the images that the table at `path` lists.

    Args:
        path: the CSV or TSV file.
        data_dir: the folder that the table's paths are relative to; the table's own folder when None.

    Raises:
        UserError: the file is no such table, names an unknown split, or has no class.
    """
    folder = str(Path(data_dir).expanduser() if data_dir else path.parent)
    labels: set[str] = set()
    count = 0

    def states() -> Iterator[tuple[object, ...]]:
        nonlocal count
        for row in _read_rows(path):
            if row.split and split_name(row.split) is None:
                unknown = f"unknown split {row.split!r}: {nearest(row.split, SPLITS)}"
                raise UserError(f"--dataset {path}, line {row.line}: {unknown}")
            count += 1
            labels.update([row.label] if row.label else [])
            yield (*file_state(os.path.join(folder, row.path)), row.label, row.split, *row.columns.items())

    digest = digest_parts(states())
    if not labels:
        raise UserError(f"--dataset {path}: no class in its {count} lines; expected lines of path,label[,split]")

    def sources() -> Iterator[ImageSource]:
        for row in _read_rows(path):
            read = partial(read_file, os.path.abspath(os.path.join(folder, row.path)))
            yield ImageSource(row.path, row.label or None, split_name(row.split), read, columns=row.columns)

    return Dataset(
        name=path.stem,
        labels=tuple(sorted(labels)),
        sources=sources,
        count=count,
        fingerprint=digest,
    )
