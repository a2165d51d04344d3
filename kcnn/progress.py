"""The progress bar of every long phase."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(iterable: Iterable | None = None, *, total: int | None = None, description: str, unit: str = "it") -> Any:
    """A tqdm bar on standard error with counts, rate and time left; in a log file, one line every ten seconds."""
    terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        desc=description,
        unit=unit,
        dynamic_ncols=terminal,
        mininterval=0.1 if terminal else 10.0,
        file=sys.stderr,
        leave=True,
    )
