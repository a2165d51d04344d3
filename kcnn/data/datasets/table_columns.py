"""The way a table is written: its separator, and which columns hold the path, the class and the split.

Columns are known by the names that people give them, and by what they hold. Where that leaves a doubt, an error asks.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from kcnn.data.datasets import split_name
from kcnn.data.records import SPLITS
from kcnn.data.text_files import (
    COMMA,
    SEPARATORS,
    SPACE,
    TextRow,
    is_comment,
    is_image_name,
    named_separator,
    split_line,
    split_rows,
)
from kcnn.errors import UserError, nearest
from kcnn.terminal import one_line

ROLES = ("path", "label", "split")
EXPECTED = "path,label[,split]"
# Names of columns in lower case, letters and digits alone. An earlier line wins; two names of one line are a doubt.
_NAMES: dict[str, tuple[str, ...]] = {
    "path": (
        "path",
        "filepath imagepath imgpath picturepath photopath relativepath relpath fullpath imagefilepath paths filepaths",
        "filename imagefilename imgfilename filenames fname file imagefile imgfile files imagename imgname",
        "image images img imgs picture photo",
        "imageid imgid fileid pictureid photoid idcode id name",
        "uri url imageuri imageurl",
    ),
    "label": (
        "label",
        "labelname classname categoryname labeltext",
        "class classes labels category categories target classlabel imagelabel species breed diagnosis",
        "classid labelid categoryid targetid classindex labelindex classidx labelidx y",
    ),
    "split": ("split", "subset partition splitname datasplit datasetsplit traintest traintestsplit trainvaltest"),
}
_PERHAPS_SPLIT = {"set", "fold", "usage", "phase", "stage", "mode", "group", "purpose", "dataset", "datatype", "part"}
_SPLIT_FLAG = re.compile("(is)?(train(ing)?|val(id|idation)?|test(ing)?)(image|set)?")
_SAMPLE = 200  # lines by which the separator is found
_LOOKED_UP = 50  # rows whose cells are looked for among the files


class TableColumns(NamedTuple):
    """The way a table is written.

    Attributes:
        separator: what stands between cells.
        header: whether the first row names the columns.
        names: a name for each column: path, label and split for those that hold these, "" for one without a name.
        remarks: what a user should know of the way that the table was understood, a line each.
    """

    separator: str
    header: bool
    names: tuple[str, ...]
    remarks: tuple[str, ...]


def read_rows(
    lines: Iterable[str], origin: str, separator: str, width: int | None, is_file: Callable[[str], bool]
) -> Iterator[TextRow]:
    """Yield the rows of a table, but for comments, with cells without blanks around them.

    A comment is a row that begins with "# " and whose first cell is no file.

    Args:
        lines: the lines, with their line ends.
        origin: begins the message of an error.
        separator: what stands between cells.
        width: cells of a row that is separated by blanks; of two, the first may hold blanks, the last may not.
        is_file: whether a cell is the path of a file.

    Raises:
        UserError: quotation marks do not match.
    """
    for line, row in split_rows(lines, origin, separator, skip_blanks=separator != SPACE):
        cells = [cell.strip() for cell in row]
        if is_comment(cells[0]) and not is_file(cells[0]):
            continue
        if separator == SPACE:
            while not cells[-1]:
                cells.pop()
            filled = [cell for cell in cells if cell]
            cells = [SPACE.join(cells[:-1]).strip(), cells[-1]] if width == 2 else filled
        yield TextRow(line, cells)


def understand_columns(
    open_lines: Callable[[], Iterator[str]], origin: str, expected_separator: str, is_file: Callable[[str], bool]
) -> TableColumns:
    """Find out how a table is written, from all its rows.

    Args:
        open_lines: returns the table's lines, from the first.
        origin: begins the message of an error.
        expected_separator: the one that needs no remark.
        is_file: whether a cell is the path of a file.

    Raises:
        UserError: the table is empty or is none, or the columns are in doubt.
    """
    sample = [line for line in itertools.islice(open_lines(), _SAMPLE) if line.strip()]
    if not sample:
        raise UserError(f"{origin}: the table is empty; expected lines of {EXPECTED}")

    def is_image(cell: str) -> bool:
        return is_image_name(cell) or (cell != "" and is_file(cell))

    separator, blanks = _find_separator(sample, is_image)
    rows = read_rows(open_lines(), origin, separator, blanks, is_file)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{origin}: the table has comments alone; expected lines of {EXPECTED}")
    header = bool({"path", "label"} & {*_named_roles(first.cells)}) and not any(map(is_image, first.cells))
    held = _Held(is_image)
    for row in rows if header else itertools.chain([first], rows):
        held.add(row)
    if header:
        names, remarks = _by_name(first, held, origin)
    else:
        names, remarks = _by_content(first, held, origin), []
    plain = separator == expected_separator and all(
        name == cell.lower() or name not in ROLES
        for name, cell in zip(names, first.cells if header else ROLES, strict=False)
    )
    if not plain:
        titles = [repr(cell) for cell in first.cells] if header else [str(n) for n in range(1, len(names) + 1)]
        roles = (f"{role} is column {titles[names.index(role)]}" for role in ROLES if role in names)
        remarks = [f"the table was read with the separator {separator!r}: {', '.join(roles)}", *remarks]
    return TableColumns(separator, header, tuple(names), tuple(map(one_line, remarks)))


class _Held:
    """The content of a table's columns, for each column: gathered row by row."""

    def __init__(self, is_image: Callable[[str], bool]):
        self._is_image = is_image
        self.rows = 0
        self.looked_up = 0
        self.images: list[int] = []  # cells of the first rows that are paths of images
        self.splits: list[set[str]] = []  # the splits that cells name
        self.strange: list[tuple[int, str] | None] = []  # the first cell that names none, and its line
        self.empty: list[int] = []
        self.first_images = True  # whether the first row names an image

    @property
    def width(self) -> int:
        """Return the cells of the longest row, without empty ones at its end."""
        return len(self.splits)

    def add(self, row: TextRow) -> None:
        """Take the next row into account."""
        filled = max((number for number, cell in enumerate(row.cells, start=1) if cell), default=0)
        while len(self.splits) < filled:
            self.images.append(0)
            self.splits.append(set())
            self.strange.append(None)
            self.empty.append(self.rows)
        self.rows += 1
        for column, cell in enumerate(itertools.islice(itertools.chain(row.cells, itertools.repeat("")), self.width)):
            if not cell:
                self.empty[column] += 1
            elif (split := split_name(cell)) is not None:
                self.splits[column].add(split)
            elif self.strange[column] is None:
                self.strange[column] = (row.line, cell)
        if self.looked_up < _LOOKED_UP:
            found = [self._is_image(cell) for cell in row.cells[: self.width]]
            if not self.looked_up:
                self.first_images = any(found)
            self.looked_up += 1
            for column, image in enumerate(found):
                self.images[column] += image

    def named_splits(self, column: int) -> set[str]:
        """Return the splits that cells of a column name."""
        return self.splits[column] if column < self.width else set()

    def strange_cell(self, column: int) -> tuple[int, str] | None:
        """Return the line and the text of a column's first cell that names no split."""
        return self.strange[column] if column < self.width else None

    def has_only_splits(self, column: int) -> bool:
        """Return whether each cell of a column names a split."""
        return column < self.width and self.strange[column] is None and not self.empty[column]


def _simple(name: str) -> str:
    return "".join(filter(str.isalnum, name)).lower()


def _named_roles(cells: Sequence[str]) -> dict[str, list[int]]:
    """Return the columns whose names say what they hold: role → the columns with the best names for it."""
    found: dict[str, list[int]] = {}
    simple = [_simple(cell) for cell in cells]
    for role, lines in _NAMES.items():
        for line in lines:
            if columns := [column for column, name in enumerate(simple) if name in line.split()]:
                found[role] = columns
                break
    return found


def _find_separator(sample: list[str], is_image: Callable[[str], bool]) -> tuple[str, int | None]:
    """Return the separator, and for blanks how many cells a row has."""
    if separator := named_separator(sample[0].strip("\r\n")):
        return separator, None
    lines = [line for line in sample if not is_comment(line.split(maxsplit=1)[0])][:_LOOKED_UP]

    def fit(separator: str) -> tuple[bool, int, int, int]:
        rows = [split_line(line, separator) for line in lines]
        roles = len(_named_roles(rows[0])) if rows else 0
        widths = [len(row) for row in rows if len(row) > 1]
        images = sum(len(row) > 1 and any(map(is_image, row)) for row in rows)
        return roles > 1, images, roles, max(map(widths.count, widths), default=0)

    fits = {separator: fit(separator) for separator in (COMMA, *SEPARATORS, SPACE)}
    best = max(fits, key=fits.__getitem__)
    if best != SPACE:
        return best, None
    named, images, *_ = fits[SPACE]
    if not named and images * 2 < len(lines):  # words alone are no table
        return COMMA, None
    rows = [list(filter(None, split_line(line, SPACE))) for line in lines]
    three = all(len(row) == 3 and (is_image(row[0]) and split_name(row[2])) for row in rows)
    return SPACE, len(rows[0]) if named else 3 if three else 2


def _by_name(first: TextRow, held: _Held, origin: str) -> tuple[list[str], list[str]]:
    """Return the columns' names, of which the first row has at least one of path and label, and remarks."""
    titles = first.cells
    origin = f"{origin}, line {first.line}"
    twice = sorted({name for name in titles if name and titles.count(name) > 1})
    if twice:
        raise UserError(f"{origin}: two columns are called {twice[0]!r}")
    roles: dict[str, int] = {}
    for role, columns in _named_roles(titles).items():
        if len(columns) > 1:
            doubt = " or ".join(repr(titles[column]) for column in columns)
            raise UserError(f"{origin}: is the {role} in column {doubt}? Call one of them {role}")
        roles[role] = columns[0]
    rest = [column for column, title in enumerate(titles) if title and column not in roles.values()]
    rest, remarks = _find_split(titles, roles, rest, held, origin)
    for role, other in (("path", "label"), ("label", "path")):
        if role in roles:
            continue
        if len(rest) == 1:
            images = {**roles, role: rest[0]}
            if _count(held.images, images["path"]) and not _count(held.images, images["label"]):
                roles[role] = rest.pop()
                continue
        raise UserError(
            f"{origin}: {titles[roles[other]]!r} is the {other}, but no column's name says {role} among "
            f"{', '.join(filter(None, titles))}; expected {EXPECTED}"
        )
    by_column = {column: role for role, column in roles.items()}
    return [by_column.get(column, title) for column, title in enumerate(titles)], remarks


def _find_split(
    titles: Sequence[str], roles: dict[str, int], rest: list[int], held: _Held, origin: str
) -> tuple[list[int], list[str]]:
    """Put the column of the split into `roles`, by what it holds where its name leaves a doubt.

    Args:
        titles: the columns' names in the table.
        roles: role → column, by their names alone.
        rest: the other columns.
        held: what the columns hold.
        origin: begins the message of an error.

    Returns:
        the columns without a role, and remarks.
    """

    def check(column: int) -> None:
        if (strange := held.strange_cell(column)) is not None:
            line, cell = strange
            raise UserError(
                f"{origin}, column {titles[column]!r}: {cell!r} in line {line} is no split: {nearest(cell, SPLITS)}; "
                "rename the column where it is something else"
            )

    if "split" in roles:
        if _simple(titles[roles["split"]]) != "split":
            check(roles["split"])
        return rest, []
    if flags := [titles[column] for column in rest if _SPLIT_FLAG.fullmatch(_simple(titles[column]))]:
        raise UserError(f"{origin}: does {flags[0]!r} say the split? Expected a column split of train, val and test")
    remarks, splits = [], []
    for column in rest:
        perhaps = _simple(titles[column]) in _PERHAPS_SPLIT
        named = held.named_splits(column)
        if perhaps and named:
            check(column)
        elif perhaps and held.strange_cell(column):
            remarks.append(f"column {titles[column]!r} holds no train, val or test, and was not taken for the split")
        told = "train" in named and len(named) > 1 and held.has_only_splits(column)
        if told or (perhaps and named):
            splits.append(column)
    if len(splits) > 1:
        doubt = " or ".join(repr(titles[column]) for column in splits)
        raise UserError(f"{origin}: is the split in column {doubt}? Call one of them split")
    if splits:
        roles["split"] = splits[0]
    return [column for column in rest if column not in splits], remarks


def _count(counts: Sequence[int], column: int) -> int:
    return counts[column] if column < len(counts) else 0


def _by_content(first: TextRow, held: _Held, origin: str) -> list[str]:
    """Return the names of two or three columns that have none: path, label, split, in this order or as they hold."""
    origin = f"{origin}, line {first.line}"
    if len(first.cells) < 2 or held.width > len(ROLES):
        return list(ROLES)  # reading it says which line has too few cells or too many
    if not held.first_images and max(held.images) * 2 > held.looked_up:
        raise UserError(
            f"{origin}: {','.join(first.cells)!r} names no image, as the other lines do, and no column that is known; "
            f"expected {EXPECTED}"
        )
    width = max(2, held.width)
    path = max(range(held.width), key=held.images.__getitem__)
    others = [column for column in range(width) if column != path]
    names = dict.fromkeys(range(width), "label") | {path: "path"}
    if width > 2:
        splits = [column for column in others if held.named_splits(column) and not held.strange_cell(column)]
        if not splits and path:
            raise UserError(
                f"{origin}: column {path + 1} names the images, and no other column holds train, val and test; "
                f"expected {EXPECTED}, or a first line that names the columns"
            )
        names[splits[-1] if splits else others[-1]] = "split"
    return [names[column] for column in range(width)]
