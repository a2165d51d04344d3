"""Images to leave out, by a list to edit: the `exclusions.csv` of a scan, the `label_errors.csv` of an audit, or a file
of your own.

    filename,finding,exclude
    train/cat/a.jpg,leak,x
    train/dog/b.jpg,blank,

A row whose `exclude` is not empty leaves its image out; other rows and columns say nothing. No file is deleted.
"""

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from kcnn.content import sha256
from kcnn.data.datasets import Dataset, Source, fingerprint
from kcnn.errors import UserError

_NAMED = 3  # unknown files, in an error
_SHOWN = 80  # characters of a header, likewise


def read(path: Path) -> dict[str, str]:
    """Filename → what was found in it, "" where the list does not say, of the rows that exclude.

    Raises:
        UserError: it cannot be read, is no CSV, or lacks a column.
    """
    found: dict[str, list[str]] = {}
    try:
        # File names may hold bytes that are no UTF-8, as the list of a scan has them.
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            columns = list(rows.fieldnames or ())
            for column in ("filename", "exclude"):
                if column not in columns:
                    got = ascii(",".join(columns)[:_SHOWN]) if columns else "an empty file"
                    raise UserError(
                        f"--exclude {path}: no column {column!r}: expected filename,finding,exclude, got {got}"
                    )
            for row in rows:
                if (row["exclude"] or "").strip():
                    found.setdefault(row["filename"], []).append(row.get("finding") or "")
    except OSError as error:
        raise UserError(f"--exclude {path}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise UserError(f"--exclude {path}: not a CSV file of filename,finding,exclude: {error}") from None
    return {name: ", ".join(dict.fromkeys(filter(None, findings))) for name, findings in found.items()}


def digest(path: str | Path | None) -> str:
    """sha256 of a list's bytes, "" without a list.

    Raises:
        UserError: it cannot be read.
    """
    if path is None:
        return ""
    try:
        return sha256(Path(path))
    except OSError as error:
        raise UserError(f"--exclude {path}: cannot be read: {error.strerror}") from None


def exclude(dataset: Dataset, path: str | Path | None) -> Dataset:
    """`dataset` in which the images of a list have no label, and the list for a reason; itself without a list.

    Raises:
        UserError: as `read` does; or a file of the list is not in the data set.
    """
    if path is None:
        return dataset
    listed = read(Path(path))
    unknown = dict.fromkeys(listed)
    for source in dataset.sources():
        unknown.pop(source.filename, None)
    if unknown:
        raise UserError(f"--exclude {path}: {_unknown(list(unknown), dataset)}")

    def left_out(source: Source) -> Source:
        if source.filename not in listed:
            return source
        reason = ": ".join(filter(None, (f"excluded by {path}", listed[source.filename])))
        return dataclasses.replace(source, label=None, reason=reason)

    def sources() -> Iterator[Source]:
        yield from map(left_out, dataset.sources())

    return dataclasses.replace(
        dataset, sources=sources, fingerprint=fingerprint([dataset.fingerprint, "excluded", sorted(listed.items())])
    )


def _unknown(names: list[str], dataset: Dataset) -> str:
    known = [source.filename for source in dataset.sources() if _last(source.filename) == _last(names[0])]
    first = next(iter(dataset.sources())).filename
    hint = f"did you mean {known[0]}?" if known else f"its files have names like {first}"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"not in --dataset {dataset.name}: {', '.join(names[:_NAMED])}{more}; {hint}"


def _last(filename: str) -> str:
    return filename.rpartition("/")[2]
