"""Tables and lines for the terminal."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def aligned(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Format rows as columns, two blanks apart; what cannot be printed is escaped.

    Args:
        rows: the cells of each row.
        right: the numbers of the columns that are aligned to the right, from 0.

    Returns:
        a line for each row.
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


def json_line(value: Any) -> str:
    """Encode a value as JSON on one line for standard output, with what that cannot print as JSON's own escapes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return json.dumps(value, ensure_ascii=encoding.lower().replace("-", "") != "utf8")


def printable(text: str) -> str:
    """Escape control characters and bytes that are no UTF-8, which file names may hold; keep line breaks."""
    return "\n".join(map(one_line, text.split("\n")))


def one_line(text: str) -> str:
    """Escape control characters, line breaks and bytes that are no UTF-8, which file names may hold."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
