"""The values to try next: Bayesian optimisation with scikit-learn's Gaussian processes.

The first few points fill the space evenly. After them, the next point is the one where a Gaussian process that is
fitted to the scores expects the most improvement over the best (Jones, Schonlau & Welch, "Efficient Global Optimization
of Expensive Black-Box Functions", 1998). Each hyperparameter has a length scale of its own: one that does not matter is
soon left alone. KerasTuner's oracle has one scale for all, and takes seconds for a proposal.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm, qmc
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from kcnn.training.hyperparameters import Range, SearchSpace, Values

INITIAL = 5  # trials before the first proposal by a fit, the recipe's own values among them
CANDIDATES = 2000  # drawn anywhere, and as many again around the best
AROUND, BEST = 0.1, 3  # standard deviation of candidates around the best, in parts of a range; how many are the best
DIGITS = 3  # significant digits of a proposed number, which people may want to copy


def propose_values(
    space: SearchSpace, tried: Sequence[Values], scores: Sequence[float], seed: int
) -> dict[str, Any] | None:
    """Return the next values to try, which depend on the arguments alone.

    Args:
        space: where to search.
        tried: the values of one trial or more; none is proposed again.
        scores: of the same trials; higher is better.
        seed: any integer from 0.

    Returns:
        values by name; None where all were tried.
    """
    random, dimensions = np.random.default_rng((seed, len(tried))), len(space)
    anywhere = random.random((CANDIDATES, dimensions))
    if len(tried) < INITIAL:
        even = qmc.Sobol(dimensions, seed=seed).random(8)[len(tried) - 1 :]
        candidates = np.concatenate([even, anywhere])
    else:
        points = np.array([_encode(space, values) for values in tried])
        best = points[np.argsort(scores)[::-1][:BEST]]
        moves = random.normal(0, AROUND, (CANDIDATES, dimensions))
        around = best[random.integers(0, len(best), CANDIDATES)] + moves
        candidates = np.concatenate([anywhere, around.clip(0, 1)])
        expected = _expected_improvement(_features(space, points), np.array(scores), _features(space, candidates))
        candidates = candidates[np.argsort(-expected, kind="stable")]
    return next((values for values in (_decode(space, point) for point in candidates) if values not in tried), None)


def _expected_improvement(points: np.ndarray, scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the expected improvement over the best point for each candidate."""
    scaled = (scores - scores.mean()) / (scores.std() or 1.0)
    # Length scales of a third of a range or more: with shorter ones the search stayed where it first found something.
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(np.ones(points.shape[1]), (0.35, 10.0), nu=2.5)
    process = GaussianProcessRegressor(kernel + WhiteKernel(1e-2, (1e-4, 0.5)), n_restarts_optimizer=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound: few trials say nothing about it
        process.fit(points, scaled)
    mean, deviation = process.predict(candidates, return_std=True)
    gain = mean - process.predict(points).max()
    share = gain / np.maximum(deviation, 1e-9)
    return gain * norm.cdf(share) + deviation * norm.pdf(share)


def _encode(space: SearchSpace, values: Values) -> list[float]:
    """Return values as a point of the unit cube; a choice stands at the middle of its part of the axis."""

    def place(where: Range | tuple[Any, ...], value: Any) -> float:
        if isinstance(where, tuple):
            return (where.index(value) + 0.5) / len(where)
        low, high, value = where.low, where.high, max(value, where.low)
        if where.log:
            low, high, value = np.log([low, high, value])
        return float((value - low) / (high - low))

    return [place(where, values[name]) for name, where in space.items()]


def _decode(space: SearchSpace, point: np.ndarray) -> dict[str, Any]:
    """Return the values at a point of the unit cube."""

    def value(where: Range | tuple[Any, ...], place: float) -> Any:
        if isinstance(where, tuple):
            return where[min(int(place * len(where)), len(where) - 1)]
        low, high = where.low, where.high
        return float(f"{low * (high / low) ** place if where.log else low + place * (high - low):.{DIGITS}g}")

    return {name: value(where, place) for (name, where), place in zip(space.items(), point, strict=True)}


def _features(space: SearchSpace, points: np.ndarray) -> np.ndarray:
    """Return the columns that the process is fitted to: a number's place in its range, a name as one-hot."""
    columns = []
    for where, column in zip(space.values(), points.T, strict=True):
        if not isinstance(where, tuple):
            columns.append(column)
            continue
        index = np.minimum((column * len(where)).astype(int), len(where) - 1)
        named = isinstance(where[0], str)
        columns += [index == choice for choice in range(len(where))] if named else [index / (len(where) - 1)]
    return np.stack(columns, axis=1).astype(float)
