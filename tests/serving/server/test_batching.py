"""Requests that wait for a batch and requests that run at once, with a model that only counts."""

import asyncio
import contextlib
from pathlib import Path

import numpy as np
import pytest

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
                asked = (batcher.run(servable, signature, inputs, rows) for _ in range(times))
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
