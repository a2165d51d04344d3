"""Tables and JSON as lines for the terminal."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from kcnn.terminal import acts, one_line


def aligned(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
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
    return [line.rstrip() for line in lines]


def json_line(value: Any) -> str:
    """Encode a value as JSON on one line for standard output, with what that cannot print as JSON's own escapes."""
    (line,) = _json_lines(value)
    return line


def json_document(value: Any) -> list[str]:
    """Encode a value as the lines of indented JSON, escaped as by `json_line`."""
    return _json_lines(value, indent=2)


def _json_lines(value: Any, indent: int | None = None) -> list[str]:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = json.dumps(value, ensure_ascii=encoding.lower().replace("-", "") != "utf8", indent=indent)
    return [
        line if line.isprintable() else "".join(json.dumps(sign)[1:-1] if acts(sign) else sign for sign in line)
        for line in text.split("\n")
    ]
