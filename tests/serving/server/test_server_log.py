"""The server's log: a fault that repeats itself is written a few times a minute."""

import logging

import pytest

from kcnn.serving.server import log


@pytest.fixture
def logger(monkeypatch):
    """Give a logger of its own with the handler, the time in a list, and what is written."""
    clock, written, handler = [0.0], [], log.BoundedHandler()
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(handler, "stream", type("Stream", (), {"write": written.append, "flush": lambda: None}))
    made = logging.Logger("server")
    made.addHandler(handler)
    return made, clock, written


def fail(logger, value):
    try:
        int(value)
    except ValueError:
        logger.exception("internal error")


def test_a_fault_is_written_a_few_times_a_minute_and_then_counted(logger):
    logger, clock, written = logger
    for number in range(10_000):
        fail(logger, f"x{number}")  # whatever value the client sends
    assert len(written) == 5
    clock[0] = 59.0
    fail(logger, "x")
    assert len(written) == 5
    clock[0] = 61.0
    fail(logger, "x")
    assert len(written) == 6
    assert "internal error (9996 more since" in written[5]
    clock[0] = 200.0
    fail(logger, "x")
    assert "more since" not in written[6]


def test_another_fault_is_written(logger):
    logger, _, written = logger
    for _ in range(10):
        fail(logger, "x")
    logger.warning("something else")
    assert len(written) == 6


def test_a_long_record_keeps_its_beginning_and_its_end(logger):
    logger, _, written = logger
    logger.error("begin %s end", "x" * 2**20)
    assert len(written[0]) < 10_000
    assert "begin" in written[0]
    assert written[0].endswith(" end\n")
