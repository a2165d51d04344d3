"""The progress bar of every long phase."""

import contextlib
import contextvars
import importlib
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

SECONDS = 10.0  # between two lines of a log
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}, {elapsed} gone, {remaining} left, {rate_fmt}{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}: {n_fmt} {unit}, {elapsed} gone, {rate_fmt}{postfix}"


class _Terminal(tqdm):
    """Its clock goes on between two steps, of which the first may take long."""

    disable: bool = True  # until it is made, which Ctrl-C may prevent
    delay: float
    _ticker: threading.Thread | None = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._over = threading.Event()
        if not self.disable:
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()

    def _tick(self):
        while not self._over.wait(1.0):
            if time.time() > self.start_t + self.delay:
                self.delay = 0  # tqdm would not end the line of a bar that it has not drawn itself
                self.refresh()

    def close(self):
        """Shows how it ended."""
        if self._ticker is not None:
            self._over.set()
            self._ticker.join()
            self._ticker = None
        super().close()


class _Log(tqdm):
    """Whole lines for a file or a pipe, where nothing can be drawn over."""

    disable: bool = True  # until it is made, which Ctrl-C may prevent
    after = 0.0

    @staticmethod
    def status_printer(file):
        """What tqdm prints its line with; it prints an empty one to erase it."""
        return lambda line: print(line, file=file, flush=True) if line else None

    @classmethod
    def write(cls, s, file=None, end="\n", nolock=False):
        """Prints a line of its own."""
        print(s, file=file, end=end, flush=True)

    def close(self):
        """Says how it ended."""
        if not self.disable:
            self.disable = True
            self._decr_instances(self)
            if time.time() >= self.start_t + self.after:
                self.display()


_hidden = contextvars.ContextVar("hidden", default=False)


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """Within it no bar is shown: of work that is a step of another bar's."""
    token = _hidden.set(True)
    try:
        yield
    finally:
        _hidden.reset(token)


def bar(
    iterable: Iterable | None = None,
    *,
    total: int | None = None,
    description: str,
    unit: str = "it",
    line: str | None = None,
    after: float = 0.0,
) -> Any:
    """A tqdm bar on standard error with counts, rate and time left; in a log, a line in ten seconds and at the end.

    Args:
        iterable: what to count as it is gone through; None to call `update`.
        total: how many there are, where the iterable does not know.
        description: what is being done.
        unit: what is counted.
        line: what to show instead, as tqdm's `bar_format`.
        after: seconds; nothing is shown of what takes less.
    """
    if sys.stderr.isatty():
        known = os.get_terminal_size(sys.stderr.fileno()).columns > 0  # not in some containers
        size: dict[str, Any] = {"dynamic_ncols": True} if known else {"ncols": 80, "nrows": 24}
        return _Terminal(
            iterable,
            total=total,
            desc=description,
            unit=unit,
            bar_format=line,
            delay=after,
            file=sys.stderr,
            disable=_hidden.get(),
            **size,
        )
    log = _Log(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        mininterval=SECONDS,
        delay=max(after, SECONDS),
        bar_format=line or (_LINE if total or hasattr(iterable, "__len__") else _LINE_WITHOUT_TOTAL),
        file=sys.stderr,
        disable=_hidden.get(),
    )
    log.after = after
    return log


def clock(description: str) -> Any:
    """A bar for work that is one step, within a `with`: how long it has taken, and how much it took in the end."""
    return bar(description=description, line="{desc}: {elapsed}")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Within it nothing reaches the terminal's standard error, not even from below Python."""
    terminal = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def import_quietly(module: str) -> None:
    """Imports what writes to the terminal while it loads, below Python, as TensorFlow does."""
    with quietly():
        importlib.import_module(module)
