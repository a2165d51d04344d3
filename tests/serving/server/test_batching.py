"""Requests that wait for a batch and requests that run at once, with a model that only counts."""

import asyncio
import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from grpc import StatusCode

from kcnn.serving.server.batching import Batcher
from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.runtime import ArraySpec, Signature
from kcnn.serving.server.settings import ServedModel, Settings

ROWS = ArraySpec(np.dtype("float32"), (None, 2))
BATCHED = Signature("images", "", {"x": ROWS}, {"y": ROWS})
METADATA = Signature("metadata", "", {}, {"y": ArraySpec(np.dtype("float32"), ())})
LONG = 60_000_000  # microseconds: a test that waits for it fails by its own limit


class Counting:
    """A version whose model notes the rows of each batch."""

    name = "counting"

    def __init__(self):
        self.batches = []
        self.model = self

    @contextlib.contextmanager
    def in_use(self):
        yield

    def run(self, signature, inputs):
        self.batches.append(len(inputs["x"]) if inputs else None)
        return {"y": inputs["x"] if inputs else np.zeros((), "f")}


def answered(signature, inputs, rows, times=1, **settings):
    """Return the batches that the same request makes, sent so many times at once."""

    async def ask():
        batcher = Batcher(Settings((ServedModel("m", Path("m")),), **settings), Metrics())
        servable = Counting()
        try:
            async with asyncio.timeout(5):
                asked = (batcher.run(servable, signature, inputs, [0.0] * rows) for _ in range(times))
                return await asyncio.gather(*asked), servable.batches
        finally:
            batcher.close()

    answers, batches = asyncio.run(ask())
    for answer in answers:
        assert answer.keys() == {"y"}
    return batches


@pytest.mark.parametrize("micros", [0, 2000, LONG])
@pytest.mark.parametrize(
    ("signature", "rows", "settings"),
    [(METADATA, None, {}), (BATCHED, 0, {}), (BATCHED, 3, {"enable_batching": False})],
    ids=["no inputs", "an empty batch", "batching off"],
)
def test_what_is_not_joined_runs_at_once_whatever_the_timeout(signature, rows, settings, micros):
    inputs = {} if rows is None else {"x": np.zeros((rows, 2), "f")}
    batches = answered(signature, inputs, rows or 0, times=3, batch_timeout_micros=micros, **settings)
    assert batches == [rows] * 3


def test_what_is_joined_waits_for_a_full_batch_or_the_timeout():
    row = {"x": np.zeros((1, 2), "f")}
    assert answered(BATCHED, row, 1, times=4, batch_timeout_micros=LONG, max_batch_size=4) == [4]
    assert answered(BATCHED, row, 1, times=3, batch_timeout_micros=2000, max_batch_size=4) == [3]
    assert answered(BATCHED, row, 1, times=1, batch_timeout_micros=2000) == [1]


class Slow(Counting):
    """A version whose model takes its time, and notes the first number of each batch."""

    def run(self, signature, inputs):
        time.sleep(0.02)
        self.batches.append(sorted({int(row[0]) for row in inputs["x"]}))
        return {"y": inputs["x"]}


def asked(*requests, **settings):
    """Return the batches, and what each request got, of (rows, nanoseconds of a row, client) each, in this order."""

    async def ask():
        batcher = Batcher(Settings((ServedModel("m", Path("m")),), num_batch_threads=1, **settings), Metrics())
        servable, running = Slow(), []
        try:
            async with asyncio.timeout(20):
                for number, (rows, work, client) in enumerate(requests):
                    inputs = {"x": np.full((rows, 2), number, "f")}
                    running.append(asyncio.ensure_future(batcher.run(servable, BATCHED, inputs, [work] * rows, client)))
                    await asyncio.sleep(0)
                outcomes = await asyncio.gather(*running, return_exceptions=True)
        finally:
            batcher.close()
        assert not batcher._queues
        assert not batcher._waiting
        assert not batcher._turns._clients
        return servable.batches, [getattr(one, "code", None) or len(one["y"]) for one in outcomes]

    return asyncio.run(ask())


def test_a_large_request_takes_its_turns_between_small_ones():
    large, small = (32, 1e6, "a"), (1, 1e6, "a")
    batches, outcomes = asked(small, large, small, small, max_batch_size=4, max_enqueued_batches=8)
    assert outcomes == [1, 32, 1, 1]  # it waits, although a row waits already
    together = [batch for batch in batches if {2, 3} & set(batch)]
    assert batches.index(together[-1]) <= 3  # of eleven batches
    assert batches[-1] == [1]


def test_what_takes_long_is_cut_into_parts_and_keeps_no_client_waiting():
    greedy, other = (8, 0.9e9, "a"), (1, 1e6, "b")
    batches, outcomes = asked(greedy, greedy, other, other)
    assert outcomes == [8, 8, 1, 1]
    assert len(batches) >= 16  # no two rows of a second each in one batch
    assert {2, 3} <= {number for batch in batches[:3] for number in batch}


def test_in_a_full_queue_the_client_with_the_most_gives_way():
    one = (1, 1e6, "a")
    batches, outcomes = asked(*[one] * 12, (1, 1e6, "b"), (1, 1e6, "c"), one, max_batch_size=2, max_enqueued_batches=4)
    full = StatusCode.RESOURCE_EXHAUSTED
    # The first runs, eight wait; the newest two of them make room for the other clients.
    assert outcomes == [1] * 7 + [full] * 5 + [1, 1, full]
    assert len(batches) >= 5


def test_work_is_shared_whatever_the_clients_ask_for():
    """Expect of a client with a request that as much was done for it as for one with twenty."""
    many, few = (1, 4e8, "a"), (6, 4e8, "b")
    batches, outcomes = asked(*[many] * 20, few, max_enqueued_batches=8)
    assert outcomes == [1] * 20 + [6]
    done = [number for batch in batches for number in batch]
    assert done.index(20) <= 6
    last = max(place for place, number in enumerate(done) if number == 20)
    assert last <= 16


def test_large_requests_leave_room_for_small_ones():
    large, small = (32, 1e6, "a"), (1, 1e6, "a")
    batches, outcomes = asked(*[large] * 12, *[small] * 8, max_batch_size=4, max_enqueued_batches=8)
    assert outcomes[0] == 32
    assert 3 < outcomes.count(32) < 9
    assert outcomes[12:] == [1] * 8
    first = [place for place, batch in enumerate(batches) if set(batch) & set(range(12, 20))]
    assert max(first) < 16  # while the large ones take 48 batches and more
