"""Memory that has been freed, given back to the system: the C library keeps it for later, hundreds of megabytes."""

import contextlib
import ctypes


def trim_memory() -> None:
    """Give back what is free, in some tens of milliseconds, without the interpreter's lock."""
    with contextlib.suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)
