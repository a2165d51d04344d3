"""Tables for the terminal."""

from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """The rows in columns, two blanks apart; those of the columns in `right` end, all others begin, below one another.

    File names need not be text: what cannot be printed is escaped.
    """
    rows = [[*map(one_line, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def printable(text: str) -> str:
    """Text, of several lines or one, that leaves the terminal alone whatever files are called: control characters and
    bytes that are no UTF-8 become escapes.
    """
    return "\n".join(map(one_line, text.split("\n")))


def one_line(text: str) -> str:
    """Likewise, line breaks too."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
