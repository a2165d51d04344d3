"""Lists of images to leave out: a scan's `exclusions.csv`, an audit's `label_errors.csv`, or other CSV files.

    filename,finding,exclude
    train/cat/a.jpg,leak,x
    train/dog/b.jpg,blank,

A row whose `exclude` is not empty leaves its image out; a "no" there is refused. Other rows and columns have no effect.
No file is deleted.
"""

import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from kcnn.content import sha256
from kcnn.data.datasets import Dataset, ImageSource, digest_parts
from kcnn.errors import UserError

_NAMED = 3  # unknown files, in an error
_SHOWN = 80  # characters of a header, in an error
_NO = ("0", "f", "false", "n", "no")  # these could mean to keep the image


def read_exclusions(path: Path) -> dict[str, str]:
    """Read a list: filename → finding, "" where the list names none, of the rows that exclude.

    Raises:
        UserError: the list cannot be read, is no CSV, lacks a column, or has a "no" in its column exclude.
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
                mark = (row["exclude"] or "").strip()
                if mark.lower() in _NO:
                    raise UserError(
                        f"--exclude {path}, line {rows.line_num}: {mark!r} in column exclude: expected anything else "
                        "to leave the image out, or nothing to take it"
                    )
                if mark:
                    found.setdefault(row["filename"], []).append(row.get("finding") or "")
    except OSError as error:
        raise UserError(f"--exclude {path}: cannot be read: {error.strerror}") from None
    except csv.Error as error:
        raise UserError(f"--exclude {path}: not a CSV file of filename,finding,exclude: {error}") from None
    return {name: ", ".join(dict.fromkeys(filter(None, findings))) for name, findings in found.items()}


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
    lists = {path: read_exclusions(Path(path)) for path in paths}
    known = {source.filename for source in dataset.sources()}
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


def _unknown(names: list[str], dataset: Dataset) -> str:
    known = [source.filename for source in dataset.sources() if _last(source.filename) == _last(names[0])]
    first = next(iter(dataset.sources())).filename
    hint = f"did you mean {known[0]}?" if known else f"its files have names like {first}"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"not in --dataset {dataset.name}: {', '.join(names[:_NAMED])}{more}; {hint}"


def _last(filename: str) -> str:
    return filename.rpartition("/")[2]
