r"""What the program prints: lines, in which nothing that others made acts on the terminal.

Names of files and classes, answers of servers and contents of files hold anything: sequences that move the cursor,
line breaks that forge a line, marks that turn the direction of text. `print_lines` is the one way to print, and the
standard streams (`guard_streams`) do the same to what libraries print: an escape character becomes r"\x1b".
"""

import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

from kcnn.errors import UserError

_JOINERS = "\u200c\u200d"  # of letters in Persian and Indian words, and of emoji


def print_lines(*lines: str, file: TextIO | None = None) -> None:
    """Print each text as one line, with its line breaks and whatever else acts on a terminal escaped; flush.

    Args:
        lines: the lines.
        file: the stream; None for standard output.
    """
    stream = sys.stdout if file is None else file
    if stream is not None:  # as it is in a process without standard streams
        stream.write("".join(f"{one_line(line)}\n" for line in lines))
        stream.flush()


def one_line(text: str) -> str:
    """Escape line breaks, what else acts on a terminal, and bytes that are no UTF-8, which file names may hold."""
    if text.isprintable():
        return text
    return "".join(letter.encode("unicode_escape").decode() if acts(letter) else letter for letter in text)


def acts(letter: str) -> bool:
    """Return whether a character acts on a terminal, or on the text around it, where it is printed."""
    return not (letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs")  # a wide blank


class GuardedStream:
    """A standard stream that escapes what acts on a terminal, but for line breaks and tabs.

    What cannot be written is lost, and the work goes on: `check_output` tells of it.

    Attributes:
        unguarded: the stream itself, for a bar that draws over itself.
        failure: why the stream cannot be written; None where it can.
    """

    def __init__(self, stream: TextIO):
        self.unguarded = stream
        self.failure: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)

    def write(self, text: str) -> int:
        """Write a text, escaped."""
        parts = re.split("([\n\t])", text)
        try:
            self.unguarded.write("".join(part if part in "\n\t" else one_line(part) for part in parts))
        except OSError as error:
            self._give_up(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write texts, as `write` does."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what waits to be written."""
        try:
            self.unguarded.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Have the rest go nowhere, also what waits to be written: it would fail again at the program's end."""
        self.failure = error.strerror or str(error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.unguarded.fileno())
        os.close(nowhere)


def guard_streams() -> None:
    """Guard the standard streams of this process, before anything is printed."""
    sys.stdout = GuardedStream(sys.stdout)
    sys.stderr = GuardedStream(sys.stderr)


def check_output() -> None:
    """Raise UserError where standard output is guarded and could not be written."""
    if failure := getattr(sys.stdout, "failure", None):
        raise UserError(f"standard output: {failure}")


def drawing_stream(stream: TextIO) -> TextIO:
    """Return a stream to draw on: a standard stream without its guard."""
    return stream.unguarded if isinstance(stream, GuardedStream) else stream
