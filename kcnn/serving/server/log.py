"""The server's log: faults, on standard error.

Who can cause a fault can cause it as often as there are requests. So each is written a few times a minute.
"""

import logging
import os
import time
from typing import TextIO

import tensorflow as tf

_MOST = 5  # records of a fault in a period
_SECONDS = 60.0
_LONGEST = 8000  # characters of a record; clients' own values stand in it


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes the first records of a fault in each minute, and says of those that follow how many they were.

    Records from the same place in the program are of one fault, whatever clients' values stand in them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
        self._faults: dict[tuple, tuple[float, int]] = {}  # of each: the period's beginning, the records since

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        fault, now = _fault(record), time.monotonic()
        start, count = self._faults.get(fault, (now, 0))
        left_out = max(0, count - _MOST)
        if now - start >= _SECONDS:
            start, count = now, 0
        self._faults[fault] = (start, count + 1)
        if count >= _MOST:
            return
        if not count and left_out:
            record.msg, record.args = f"{record.getMessage()} ({left_out} more since the last that was written)", ()
        super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of the record, its middle cut out where it is too long."""
        text = super().format(record)
        half = _LONGEST // 2
        return text if len(text) <= _LONGEST else f"{text[:half]}\n...\n{text[-half:]}"


def _fault(record: logging.LogRecord) -> tuple:
    """Return where the record, and the exception in it, come from."""
    error = record.exc_info[1] if record.exc_info else None
    trace = error.__traceback__ if error else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else None
    return record.pathname, record.lineno, type(error), raised


def bound_logs() -> None:
    """Send what the program and its libraries log through one BoundedHandler."""
    logging.basicConfig(handlers=[BoundedHandler()], force=True)
    tf.get_logger().handlers.clear()
    tf.get_logger().setLevel("ERROR")  # warnings are about deprecated calls
    # gRPC's core writes around Python, and as fast as it can where it has no file descriptor left.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
