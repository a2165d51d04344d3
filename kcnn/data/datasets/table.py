"""A CSV or TSV file of path,label[,split].

The first line may name the columns (then in any order, others ignored); without names the order is path, label, split.
Paths are relative to the table's own folder, or to --data_dir.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from kcnn.data.datasets import SPLITS, Dataset, Source, fingerprint, split_name
from kcnn.data.datasets.image_folder import file_state
from kcnn.errors import UserError, nearest

_COLUMNS = ("path", "label", "split")


def _rows(path: Path) -> tuple[list[list[str]], int]:
    """The rows as (path, label, split or ""), and the line number of the first."""
    delimiter = "\t" if path.suffix.lower() in (".tsv", ".tab") else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, delimiter=delimiter))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"--dataset {path}: not a directory, nor a CSV or TSV file of path,label[,split] ({error})"
        ) from None
    if not lines:
        raise UserError(f"--dataset {path}: the table is empty; expected lines of path,label[,split]")
    header = [name.strip().lower() for name in lines[0]]
    named = {"path", "label"} <= set(header)
    order = [header.index(name) if name in header else None for name in _COLUMNS] if named else [0, 1, 2]
    rows = []
    for number, line in enumerate(lines[named:], start=1 + named):
        if not any(map(str.strip, line)):
            continue
        if not named and len(line) not in (2, 3):
            raise UserError(f"--dataset {path}, line {number}: {len(line)} columns; expected path,label[,split]")
        rows.append([line[i].strip() if i is not None and i < len(line) else "" for i in order])
    return rows, 1 + named


def load(path: Path, data_dir: str | None = None) -> Dataset:
    """The images listed in the table at `path`.

    Raises:
        UserError: not such a table, an unknown split, one class only.
    """
    rows, first_line = _rows(path)
    folder = Path(data_dir).expanduser() if data_dir else path.parent
    for number, (_, _, split) in enumerate(rows, start=first_line):
        if split and split_name(split) is None:
            raise UserError(f"--dataset {path}, line {number}: unknown split {split!r}: {nearest(split, SPLITS)}")
    labels = tuple(sorted({label for _, label, _ in rows if label}))
    if len(labels) < 2:
        raise UserError(f"--dataset {path}: {len(labels)} classes in {len(rows)} lines; a classifier needs two or more")

    def sources() -> Iterator[Source]:
        for name, label, split in rows:
            yield Source(name, label or None, split_name(split), (folder / name).read_bytes)

    return Dataset(
        name=path.stem,
        labels=labels,
        sources=sources,
        count=len(rows),
        fingerprint=fingerprint((*file_state(folder / name), label, split) for name, label, split in rows),
    )
