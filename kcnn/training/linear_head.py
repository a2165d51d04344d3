"""The head solved to its end on frozen features: multinomial logistic regression with an L2 penalty.

The problem is convex and has one solution, so there is no schedule to choose. The strength of the penalty is chosen by
cross-validation on the training images, so that the validation images stay fresh for what follows. Kornblith, Shlens &
Le, "Do Better ImageNet Models Transfer Better?", CVPR 2019, section 3.1, fit the same with L-BFGS.
"""

import contextlib
import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

# The strongest first: each starts from the solution of the one before.
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
FOLDS = 5
_IN_MEMORY = 2**25  # numbers that are held in memory, in double precision
_ONE_FOLD_FROM = 5000  # images: a fifth of these tells strengths apart alone
_BLOCK = 4096  # rows at once, so that memory does not grow with the data
_ITERATIONS = 1000
_TOLERANCE = 1e-6  # of the gradient's largest entry, where a loss of 1 is usual
_ROUGH = 1e-4  # the same, to tell strengths apart


@dataclasses.dataclass(frozen=True)
class LinearHead:
    """A solved head, and how well it does on images that it was not solved on.

    Attributes:
        kernel: float32 [D, C], for features as they come.
        bias: float32 [C].
        strength: of the penalty, one of those tried.
        log_loss: mean over the images left out, in nats; None where no image could be left out.
        accuracy: of the images left out; None likewise.
        judged: how many images were left out, in all folds together.
    """

    kernel: np.ndarray
    bias: np.ndarray
    strength: float
    log_loss: float | None
    accuracy: float | None
    judged: int

    def answer(self, features: np.ndarray) -> np.ndarray:
        """Return the logits, float32 [N, C], for features [N, D] as they come."""
        blocks = range(0, len(features), _BLOCK)
        return np.concatenate([features[begin : begin + _BLOCK] @ self.kernel + self.bias for begin in blocks])


class _Rows:
    """Some rows of features, standardised block by block as they are read; the features may be mapped from a file."""

    dtype = np.dtype(np.float32)

    def __init__(self, features: np.ndarray, mean: np.ndarray, scale: np.ndarray, chosen: np.ndarray | None = None):
        self.features, self.mean, self.scale = features, mean.astype(np.float32), scale.astype(np.float32)
        self.chosen = np.arange(len(features)) if chosen is None else chosen
        self.shape = len(self.chosen), features.shape[1]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return (self.features[self.chosen[rows]] - self.mean) / self.scale

    def choose(self, rows: np.ndarray) -> "_Rows":
        """Return those of the rows with the given numbers."""
        return _Rows(self.features, self.mean, self.scale, self.chosen[rows])


def fit_logistic(
    features: np.ndarray | _Rows,
    labels: np.ndarray,
    strength: float,
    start: np.ndarray | None = None,
    tolerance: float = _TOLERANCE,
) -> np.ndarray:
    """Minimise the mean cross-entropy plus `strength` / 2 times the sum of the kernel's squares, by L-BFGS.

    Args:
        features: float [N, D].
        labels: float [N, C], distributions over the classes.
        strength: of the penalty, above 0; the bias is not penalised.
        start: what an earlier call returned for a problem nearby; None for zeros.
        tolerance: the largest entry of the gradient to end with.

    Returns:
        float64 [D + 1, C]: the kernel, and the bias as the last row.
    """
    rows, columns, classes = *features.shape, labels.shape[1]

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(columns + 1, classes).astype(features.dtype)
        gradient = np.zeros((columns + 1, classes))
        loss = 0.0
        for begin in range(0, rows, _BLOCK):
            block, targets = features[begin : begin + _BLOCK], labels[begin : begin + _BLOCK]
            logits = block @ weights[:-1] + weights[-1]
            log_sum = _log_sum_exp(logits)
            loss += float((log_sum[:, 0] * targets.sum(axis=1) - (logits * targets).sum(axis=1)).sum(dtype=np.float64))
            error = np.exp(logits - log_sum) - targets
            gradient[:-1] += block.T @ error
            gradient[-1] += error.sum(axis=0)
        kernel = flat.reshape(columns + 1, classes)[:-1]
        gradient /= rows
        gradient[:-1] += strength * kernel
        return loss / rows + strength / 2 * float(np.square(kernel).sum()), gradient.ravel()

    first = np.zeros((columns + 1, classes)) if start is None else start
    options = {"maxiter": _ITERATIONS, "maxfun": 2 * _ITERATIONS, "gtol": tolerance, "ftol": 0.0, "maxcor": 20}
    found = minimize(loss_and_gradient, first.ravel(), jac=True, method="L-BFGS-B", options=options)
    return found.x.reshape(columns + 1, classes)


def solve_head(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    views: int = 1,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
) -> LinearHead:
    """Solve a head, with the strength under which images that were left out cost least.

    Args:
        features: float32 [views * N, D], which may be mapped from a file: all images in the first view, then all in the
            second, ...
        labels: float32 [N, C], one-hot.
        views: of each image; the first is the one that answers.
        strengths: to try, the strongest first.
        seed: of the folds.
    """
    with threadpool_limits(1, "blas") if features.size <= _IN_MEMORY else contextlib.nullcontext():
        return _solve(features, labels, views, strengths, seed)


def _solve(features: np.ndarray, labels: np.ndarray, views: int, strengths: Sequence[float], seed: int) -> LinearHead:
    count = len(labels)
    mean, scale = _moments(features)
    rows, rotation = _prepare(features, mean, scale)
    repeated = np.tile(labels, (views, 1))
    folds = []
    for fold in _folds(labels, seed):
        known = np.flatnonzero(np.tile(~np.isin(np.arange(count), fold), views))
        folds.append((_choose(rows, known), repeated[known], _choose(rows, fold), labels[fold]))
    judged = sum(len(fold[3]) for fold in folds)
    solved: list[np.ndarray | None] = [None] * len(folds)
    found: list[tuple[float, float]] = []  # log-loss and accuracy under each strength
    for strength in strengths if judged else ():
        total, hits = 0.0, 0
        for index, (known_rows, known_labels, asked, answers) in enumerate(folds):
            solved[index] = weights = fit_logistic(known_rows, known_labels, strength, solved[index], _ROUGH)
            more = _judge(asked, answers, weights)
            total, hits = total + more[0], hits + more[1]
        found.append((total / judged, hits / judged))
        if len(found) > 2 and found[-1][0] > found[-2][0] > found[-3][0]:
            break  # the log-loss has one minimum, and weak penalties take longest
    best = min(range(len(found)), key=lambda index: found[index][0], default=len(strengths) // 2)
    with_start = None
    for strength in strengths[:best]:
        with_start = fit_logistic(rows, repeated, strength, with_start, _ROUGH)
    weights = fit_logistic(rows, repeated, strengths[best], with_start)
    kernel = (weights[:-1] if rotation is None else rotation @ weights[:-1]) / scale[:, None]
    log_loss, accuracy = found[best] if judged else (None, None)
    bias = weights[-1] - mean @ kernel
    return LinearHead(kernel.astype(np.float32), bias.astype(np.float32), strengths[best], log_loss, accuracy, judged)


def _choose(rows: np.ndarray | _Rows, chosen: np.ndarray) -> np.ndarray | _Rows:
    """Return some rows in single precision, which tells strengths apart as well, in half the time."""
    return rows.choose(chosen) if isinstance(rows, _Rows) else rows[chosen].astype(np.float32)


def _log_sum_exp(logits: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of the exponentials of each row, [N, 1]; scipy's takes longer than the rest."""
    largest = logits.max(axis=1, keepdims=True)
    return largest + np.log(np.exp(logits - largest).sum(axis=1, keepdims=True))


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's mean and scale, float64 [D], by which a row has a squared length of about 1."""
    total, squares = np.zeros((2, features.shape[1]))
    for begin in range(0, len(features), _BLOCK):
        block = features[begin : begin + _BLOCK].astype(np.float64)
        total += block.sum(axis=0)
        squares += np.square(block).sum(axis=0)
    mean = total / len(features)
    deviation = np.sqrt(np.maximum(squares / len(features) - mean**2, 0))
    deviation[deviation <= 1e-5 * np.abs(mean)] = np.inf  # a feature that never changes says nothing
    return mean, deviation * np.sqrt(features.shape[1])


def _prepare(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray | _Rows, np.ndarray | None]:
    """Return the standardised rows, and what turns a kernel for them into one for the features, where they are turned.

    Of fewer rows than features, the solution is a combination of the rows. So they are turned into the space that they
    span, which changes no product of two of them, and the problem has no more unknowns than rows.
    """
    if features.size > _IN_MEMORY:
        return _Rows(features, mean, scale), None
    rows = (features.astype(np.float64) - mean) / scale
    if len(rows) >= rows.shape[1]:
        return rows, None
    rotation, turned = np.linalg.qr(rows.T)
    return np.ascontiguousarray(turned.T), rotation


def _folds(labels: np.ndarray, seed: int) -> list[np.ndarray]:
    """Return the images, as sorted indices, that are left out together: of each class its share.

    Images of a class that has but one are left out of every fold: without them nothing would know the class.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    classes = labels.argmax(axis=1)[order]
    fold = np.full(len(labels), -1)
    for label in np.unique(classes):
        members = order[classes == label]
        if len(members) > 1:
            fold[members] = np.arange(len(members)) % FOLDS
    found = [np.flatnonzero(fold == number) for number in range(1 if len(labels) >= _ONE_FOLD_FROM else FOLDS)]
    return [each for each in found if len(each)]


def _judge(rows: np.ndarray | _Rows, labels: np.ndarray, weights: np.ndarray) -> tuple[float, int]:
    """Return the sum of the log-losses, in nats, and the number of right answers."""
    log_loss, hits = 0.0, 0
    for begin in range(0, len(labels), _BLOCK):
        targets = labels[begin : begin + _BLOCK]
        logits = rows[begin : begin + _BLOCK] @ weights[:-1] + weights[-1]
        log_loss += float((_log_sum_exp(logits)[:, 0] - (logits * targets).sum(axis=1)).sum(dtype=np.float64))
        hits += int((logits.argmax(axis=1) == targets.argmax(axis=1)).sum())
    return log_loss, hits
