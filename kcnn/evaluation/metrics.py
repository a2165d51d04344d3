"""Metrics of a classifier: proportions with intervals, per-class figures, probabilistic scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

CONFIDENCE = 0.95
BOOTSTRAP_SAMPLES = 1000
CALIBRATION_BINS = 15
BLOCK = 8192  # examples compared with all classes at once


def wilson_interval(successes: np.ndarray | int, trials: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of proportions' 95% Wilson score intervals, float [...] in [0, 1].

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Args:
        successes: int [...], from 0 to `trials`.
        trials: int [...], ≥ 1.
    """
    z = norm.isf((1 - CONFIDENCE) / 2)
    share = np.asarray(successes) / trials
    centre = share + z**2 / (2 * np.asarray(trials))
    reach = z * np.sqrt((share * (1 - share) + z**2 / (4 * np.asarray(trials))) / trials)
    scale = 1 + z**2 / np.asarray(trials)
    low, high = (centre - reach) / scale, (centre + reach) / scale
    # The ends are exactly 0 and 1, but for rounding.
    return np.where(share == 0, 0.0, low), np.where(share == 1, 1.0, high)


def proportion(successes: int, trials: int) -> dict[str, float] | None:
    """Return `value` = successes / trials with its 95% Wilson interval, `low` and `high`; None without trials."""
    if not trials:
        return None
    low, high = wilson_interval(successes, trials)
    return {"value": float(successes / trials), "low": float(low), "high": float(high)}


def true_class_rank(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return how many classes come before the true one; among equal probabilities the lower index comes first.

    Args:
        labels: int [N], the true classes.
        probabilities: float [N, C].

    Returns:
        int64 [N], 0 where the answer is right.
    """
    classes = np.arange(probabilities.shape[1])

    def rank(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        true = np.take_along_axis(probabilities, labels[:, None], axis=1)
        return ((probabilities > true) | ((probabilities == true) & (classes < labels[:, None]))).sum(axis=1)

    starts = range(0, len(labels), BLOCK)
    return np.concatenate([rank(labels[i : i + BLOCK], probabilities[i : i + BLOCK]) for i in starts])


def macro_f1(matrix: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return the mean F1 over the classes that occur as label or answer, with a 95% percentile bootstrap interval.

    A bootstrap sample of N examples is a sample of N cells of the confusion matrix, so the cells are drawn.

    Args:
        matrix: int [C, C], rows are labels, columns answers.
        seed: of the bootstrap.
    """
    rows, columns = np.nonzero(matrix)
    counts = matrix[rows, columns]
    size = len(matrix)

    def score(counts: np.ndarray) -> float:
        hits = np.bincount(rows, weights=counts * (rows == columns), minlength=size)
        sums = np.bincount(rows, weights=counts, minlength=size) + np.bincount(columns, weights=counts, minlength=size)
        return float(np.mean(2 * hits[sums > 0] / sums[sums > 0]))

    draws = np.random.default_rng(seed).multinomial(counts.sum(), counts / counts.sum(), size=BOOTSTRAP_SAMPLES)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile([score(draw) for draw in draws], [tail, 1 - tail])
    return {"value": score(counts), "low": float(low), "high": float(high)}


def expected_calibration_error(correct: np.ndarray, confidence: np.ndarray) -> float:
    """Return the mean gap between confidence and accuracy over 15 equal bins of confidence, weighted by examples.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, equation 3.

    Args:
        correct: bool [N], whether the top class is the label.
        confidence: float [N], the top class' probability.

    Returns:
        the error, 0 to 1.
    """
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=correct.astype(float) - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(correct))


def classification_metrics(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str], seed: int = 0
) -> tuple[dict[str, Any], np.ndarray]:
    """Return all figures of a test set, JSON-able, and the confusion matrix.

    Args:
        labels: int [N], N ≥ 1, in [0, C).
        probabilities: float [N, C], rows sum to 1.
        class_names: the C names, for `per_class`.
        seed: of the bootstrap.

    Returns:
        The figures. `{value, low, high}` is an estimate with its 95% interval, and None is a figure that does not exist
        (recall of a class without examples, precision of one never answered):
            examples, classes: N, C.
            top1, top5: accuracy, Wilson interval; top5 only when C > 5.
            macro_f1: bootstrap interval.
            negative_log_likelihood: mean, in nats.
            brier: mean squared distance of the probabilities from the one-hot label, in [0, 2] (Brier 1950).
            expected_calibration_error: in [0, 1].
            per_class: a list of {class, support, precision, recall, f1}.
        int64 [C, C], rows are labels, columns answers.

    Raises:
        ValueError: no examples, a label out of range, shapes that do not fit, or probabilities that are not finite.
    """
    size = len(class_names)
    if labels.shape != (len(labels),) or probabilities.shape != (len(labels), size) or not len(labels):
        raise ValueError(f"labels {labels.shape} and probabilities {probabilities.shape} do not fit {size} classes")
    if labels.min() < 0 or labels.max() >= size:
        raise ValueError(f"labels run from {labels.min()} to {labels.max()}, but there are {size} classes")
    if not np.isfinite(probabilities).all():
        raise ValueError("the model's probabilities are not all finite numbers")
    count = len(labels)
    rank = true_class_rank(labels, probabilities)
    answers = probabilities.argmax(axis=1)
    matrix = confusion_matrix(labels, answers, labels=range(size))
    f1 = precision_recall_fscore_support(labels, answers, labels=range(size), zero_division=np.nan)[2]
    hits, support, answered = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    true = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].astype(np.float64)
    squares = np.einsum("nc,nc->n", probabilities, probabilities).astype(np.float64)
    metrics = {
        "examples": count,
        "classes": size,
        "top1": proportion((rank < 1).sum(), count),
        **({"top5": proportion((rank < 5).sum(), count)} if size > 5 else {}),
        "macro_f1": macro_f1(matrix, seed),
        "negative_log_likelihood": float(-np.log(np.maximum(true, np.finfo(np.float32).tiny)).mean()),
        "brier": float((squares - 2 * true + 1).mean()),
        "expected_calibration_error": expected_calibration_error(rank < 1, probabilities.max(axis=1)),
        "per_class": [
            {
                "class": name,
                "support": int(support[index]),
                "precision": proportion(hits[index], answered[index]),
                "recall": proportion(hits[index], support[index]),
                "f1": None if np.isnan(f1[index]) else float(f1[index]),
            }
            for index, name in enumerate(class_names)
        ],
    }
    return metrics, matrix
