"""Distances between two samples, and the distance that chance alone makes between samples of one distribution."""

import math

import numpy as np
from scipy import special, stats

FALSE_ALARMS = 1e-4  # how seldom chance may raise an alarm in one comparison; a run makes some twenty
_LEAST_EXPECTED = 5.0  # images in a bucket, below which the chi-squared approximation fails (Cochran, 1954)


def linf_distance(here: dict[str, int], there: dict[str, int]) -> tuple[str, float, float]:
    """Compare how often values occur in two samples, by the value whose shares differ most beyond chance.

    Args:
        here: value → how often it occurs in one sample.
        there: value → how often it occurs in the other sample.

    Returns:
        the value; |share here - share there|, its part of the L-infinity distance; and the difference that chance
        makes at most, but for `FALSE_ALARMS` of all pairs of samples from one distribution, over all values together.
        Given the value's images in both samples, the number here is hypergeometric then (Fisher's exact test).
    """
    n, m = sum(here.values()), sum(there.values())
    values = sorted({*here, *there})
    counts = np.array([[here.get(value, 0), there.get(value, 0)] for value in values])
    both = counts.sum(axis=1)
    alike = stats.hypergeom(n + m, both, n)
    each = FALSE_ALARMS / (2 * len(values))
    ends = np.stack([alike.ppf(each), alike.isf(each)])  # the fewest and the most here, by chance
    chances = np.abs(ends / n - (both - ends) / m).max(axis=0)
    distances = np.abs(counts[:, 0] / n - counts[:, 1] / m)
    worst = int(np.argmax(distances - chances))
    return values[worst], float(distances[worst]), float(chances[worst])


def jensen_shannon_divergence(here: dict[float, float], there: dict[float, float]) -> tuple[float, float]:
    """Return the Jensen-Shannon divergence of two samples in the same buckets, in bits, and chance's part of it.

    Neighbouring buckets are joined until each can expect `_LEAST_EXPECTED` images in both samples.

    Args:
        here: lower end of a bucket → images of one sample in it.
        there: lower end of a bucket → images of the other sample in it.

    Returns:
        the divergence, and what chance makes it at most, but for `FALSE_ALARMS` of all pairs of samples from one
        distribution: with k buckets the divergence, to second order, is chi-squared of k - 1 degrees of freedom times
        (1/n + 1/m) / (8 ln 2).
    """
    edges = sorted({*here, *there})
    counts = np.array([[sample.get(edge, 0.0) for edge in edges] for sample in (here, there)])
    n, m = counts.sum(axis=1)
    least = _LEAST_EXPECTED * (n + m) / min(n, m)
    joined, pending = [], np.zeros(2)
    for column in counts.T:
        pending = pending + column
        if pending.sum() >= least:
            joined.append(pending)
            pending = np.zeros(2)
    if joined:
        joined[-1] = joined[-1] + pending
    if len(joined) < 2:
        return 0.0, 0.0
    p, q = np.array(joined).T / [[n], [m]]
    middle = (p + q) / 2
    divergence = float(np.sum(special.rel_entr(p, middle) + special.rel_entr(q, middle)) / (2 * math.log(2)))
    chance = float(special.chdtri(len(joined) - 1, FALSE_ALARMS)) * (1 / n + 1 / m) / (8 * math.log(2))
    return divergence, chance


def least_missed(n: int, m: int, values: int) -> float:
    """Return from how many images on a value of a sample of `m` is not missing in one of `n` by chance.

    Each of the value's images falls into the other sample with probability m / (n + m), were the two alike.

    Args:
        n: images of the sample that lacks the value.
        m: images of the sample that has it.
        values: how many values the latter has, for all of which `FALSE_ALARMS` holds together.
    """
    return math.log(FALSE_ALARMS / values) / math.log(m / (n + m))
