"""Progress bars: drawn over themselves on a terminal, whole lines in a log."""

import contextlib
import contextvars
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TextIO

from tqdm import tqdm

from kcnn.terminal import drawing_stream, one_line, print_lines

SECONDS = 10.0  # between two lines of a log
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} elapsed, {remaining} left, {rate_fmt}{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt} {unit}, {elapsed} elapsed, {rate_fmt}{postfix}"


class _Terminal(tqdm):
    """A bar on a terminal, whose clock goes on between two steps."""

    disable: bool = True  # until __init__ is done, which Ctrl-C may prevent
    delay: float
    _ticker: threading.Thread | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._over = threading.Event()
        if not self.disable:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def _tick(self) -> None:
        """Draw the bar anew each second."""
        while not self._over.wait(1.0):
            if time.time() > self.start_t + self.delay:
                self.delay = 0  # tqdm would not end the line of a bar that it has not drawn itself
                self.refresh()

    @classmethod
    def write(cls, s: str, file: TextIO | None = None, end: str = "\n", nolock: bool = False) -> None:
        """Print a line above the bars."""
        with cls.external_write_mode(file=drawing_stream(sys.stderr), nolock=nolock):
            print_lines(s, file=file)

    def close(self) -> None:
        """Show the last state of the bar."""
        if self._ticker is not None:
            self._over.set()
            self._ticker.join()
            self._ticker = None
        super().close()


class _Log(tqdm):
    """A bar in a file or a pipe: whole lines, since nothing can be drawn over."""

    disable: bool = True  # until __init__ is done, which Ctrl-C may prevent
    after = 0.0

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """Return the function that prints tqdm's lines, without the empty ones that would erase others."""
        return lambda line: print_lines(line, file=file) if line else None

    @classmethod
    def write(cls, s: str, file: TextIO | None = None, end: str = "\n", nolock: bool = False) -> None:
        """Print a line apart from the bar."""
        print_lines(s, file=file)

    def close(self) -> None:
        """Print the last state of the bar."""
        if not self.disable:
            self.disable = True
            self._decr_instances(self)
            if time.time() >= self.start_t + self.after:
                self.display()


_hidden = contextvars.ContextVar("hidden", default=False)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Show no bars within the block: its work is a step of another bar."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def bar(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    description: str,
    unit: str = "it",
    line: str | None = None,
    after: float = 0.0,
    scaled: bool = False,
) -> tqdm:
    """Return a tqdm bar on standard error with counts, rate and time left; in a log, a line every ten seconds.

    Args:
        iterable: the items to count while they are taken; None to call `update`.
        total: the number of items, where the iterable does not know it.
        description: the work.
        unit: the unit of the count.
        line: tqdm's `bar_format`; None for the usual one.
        after: seconds; work that takes less shows no bar.
        scaled: whether counts are written with k, M and G, as those of bytes.
    """
    if sys.stderr.isatty():
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # not in some containers
        size: dict[str, Any] = {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}
        return _Terminal(
            iterable,
            total=total,
            desc=one_line(description),
            unit=unit,
            unit_scale=scaled,
            bar_format=line,
            delay=after,
            file=drawing_stream(sys.stderr),
            disable=_hidden.get(),
            **size,
        )
    log = _Log(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        unit_scale=scaled,
        mininterval=SECONDS,
        delay=max(after, SECONDS),
        bar_format=line or (_LINE if total or hasattr(iterable, "__len__") else _LINE_WITHOUT_TOTAL),
        file=sys.stderr,
        disable=_hidden.get(),
    )
    log.after = after
    return log


def clock(description: str) -> tqdm:
    """Return a bar for work of one step, for a `with` block: it shows the time that the work takes."""
    return bar(description=description, line="{desc}: {elapsed}")
