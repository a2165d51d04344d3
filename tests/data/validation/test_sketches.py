"""Sketches: their sums are exact, and their answers are within the stated error."""

import random

import numpy as np
import pytest

from kcnn.data.validation.sketches import Distinct, Numbers


def test_numbers_of_any_size_merge_exactly():
    rng = random.Random(0)
    values = [rng.randrange(2 ** rng.randrange(1, 45)) for _ in range(5000)]
    whole = Numbers.of(values)
    for _ in range(20):
        rng.shuffle(values)
        cut = rng.randrange(len(values))
        assert Numbers.of(values[cut:]) + Numbers.of(values[:cut]) == whole
    assert whole.mean == pytest.approx(np.mean(np.array(values, float)))
    assert whole.deviation == pytest.approx(np.std(np.array(values, float)))
    assert whole + Numbers() == Numbers() + whole == whole


def test_quantiles_to_the_stated_error():
    values = np.random.default_rng(0).lognormal(10, 2, 20_000).astype(int)
    found = Numbers.of(values.tolist())
    ranks = np.arange(len(values))
    error = np.abs(found.values_at(ranks.tolist()) / np.sort(values) - 1)
    assert error.max() <= 0.002
    small = Numbers.of(list(range(512)))
    np.testing.assert_array_equal(small.values_at(range(512)), np.arange(512))


def test_distinct_counts():
    names = [f"{index}.jpg".encode() for index in range(100_000)]
    few = Distinct.of(names[:4000] + names[:1000])
    assert (few.count, few.unique) == (5000, 4000)
    many = Distinct.of(names[:70_000]) + Distinct.of(names[30_000:])
    assert many.hashes == Distinct.of(names).hashes
    assert many.unique == pytest.approx(100_000, rel=0.05)  # three standard errors
    assert len(many.hashes) == 4096
