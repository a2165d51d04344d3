"""Distances between samples, and the bound of the distances that chance makes."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import fisher_exact

from kcnn.data.validation import distances
from kcnn.data.validation.distances import jensen_shannon_divergence, linf_distance


@pytest.mark.slow
def test_chance_alone_stays_within_its_bound():
    """Compare without a threshold: one sample in a hundred may be above the bound."""
    rng = np.random.default_rng(0)
    above = np.zeros(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "FALSE_ALARMS", 0.01)
        for _ in range(2000):
            shares = rng.dirichlet(np.ones(rng.integers(2, 40)))
            here, there = (
                {index: int(count) for index, count in enumerate(rng.multinomial(n, shares)) if count}
                for n in rng.integers(2, 1000, 2)
            )
            _, distance, chance = linf_distance(here, there)
            above[0] += distance > chance
            distance, chance = jensen_shannon_divergence(here, there)
            above[1] += distance > chance
    assert (above <= [20, 45]).all()  # the second is approximate: see the function


def test_a_gross_difference_of_small_samples_is_seen():
    here, there = {"cat": 60, "dog": 10}, {"cat": 120, "dog": 120}
    assert fisher_exact([[60, 10], [120, 120]]).pvalue < 1e-7
    _, distance, chance = linf_distance(here, there)
    assert distance == pytest.approx(60 / 70 - 1 / 2)
    assert distance > chance + 0.05


def test_distances():
    rng = np.random.default_rng(0)
    p, q = rng.integers(100, 1000, (2, 30))
    here, there = ({float(i): int(count) for i, count in enumerate(sample)} for sample in (p, q))
    divergence, _ = jensen_shannon_divergence(here, there)
    assert divergence == pytest.approx(jensenshannon(p, q, base=2) ** 2)
    value, distance, _ = linf_distance(here, there)
    assert distance == pytest.approx(np.abs(p / p.sum() - q / q.sum())[int(value)])
    assert jensen_shannon_divergence({0.0: 10}, {5.0: 1}) == (0, 0)  # too few to tell anything
    apart, _ = jensen_shannon_divergence({0.0: 100}, {5.0: 100})
    assert apart == pytest.approx(1)
