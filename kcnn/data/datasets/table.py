"""A CSV or TSV file of path,label[,split].

The first line may name the columns, then in any order; those of other names stay with the image, to be told apart by
in its evaluation. Without names the order is path, label, split. Paths are relative to the table's own folder, or to
--data_dir.
"""

import csv
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from kcnn.data.datasets import SPLITS, Dataset, Source, fingerprint, split_name
from kcnn.data.datasets.image_folder import file_state, read_file
from kcnn.errors import UserError, nearest

_COLUMNS = ("path", "label", "split")

Row = tuple[str, str, str, dict[str, str]]


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Line numbers, and (path, label, split or "", other columns that are not empty).

    Raises:
        UserError: not such a table.
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
                yield lines.line_num, (first, label, split, cells)
    except OSError as error:
        raise UserError(f"--dataset {path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"--dataset {path}: not a directory, nor a CSV or TSV file of path,label[,split] ({error})"
        ) from None


def load(path: Path, data_dir: str | None = None) -> Dataset:
    """The images listed in the table at `path`.

    Raises:
        UserError: not such a table, an unknown split, no class.
    """
    folder = str(Path(data_dir).expanduser() if data_dir else path.parent)
    labels: set[str] = set()
    count = 0

    def states() -> Iterator[tuple[object, ...]]:
        nonlocal count
        for number, (name, label, split, columns) in _rows(path):
            if split and split_name(split) is None:
                raise UserError(f"--dataset {path}, line {number}: unknown split {split!r}: {nearest(split, SPLITS)}")
            count += 1
            labels.update([label] if label else [])
            yield (*file_state(os.path.join(folder, name)), label, split, *columns.items())

    digest = fingerprint(states())
    if not labels:
        raise UserError(f"--dataset {path}: no class in its {count} lines; expected lines of path,label[,split]")

    def sources() -> Iterator[Source]:
        for _, (name, label, split, columns) in _rows(path):
            read = partial(read_file, os.path.abspath(os.path.join(folder, name)))
            yield Source(name, label or None, split_name(split), read, columns=columns)

    return Dataset(
        name=path.stem,
        labels=tuple(sorted(labels)),
        sources=sources,
        count=count,
        fingerprint=digest,
    )
