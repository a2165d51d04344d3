"""Tables for the terminal."""

from collections.abc import Iterable, Sequence


def aligned(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """The rows in columns, two blanks apart; those of the columns in `right` end, all others begin, below one another.

    File names need not be text: what cannot be printed is escaped.
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return printable("\n".join(line.rstrip() for line in lines))


def printable(text: str) -> str:
    """Without the surrogates that stand for bytes of a file's name which are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
