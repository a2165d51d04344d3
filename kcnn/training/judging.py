"""Whether a phase of training made the network better, by the images of the validation split."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import binomtest
from tensorflow.types.experimental import ConcreteFunction

PERFECT = 0.995  # of the training images left out, and all validation images
_VERDICTS = {
    "last": ", kept",
    "mean": ", kept as the mean with the weights before it",
    "before": ", no better: the weights before it are kept",
}
LIKELY = 0.1  # the p-value from which a difference in right answers counts


def is_better(after: np.ndarray, before: np.ndarray, labels: np.ndarray) -> bool:
    """Return whether the answers after a phase are better than those before it.

    Accuracy decides where the two differ by more than chance (the sign test on the images that one of them alone gets
    right). Where they do not, as is usual with few images, the log-loss decides, which says more of each image. Each
    has the temperature that suits it (Guo et al., ICML 2017): phases with label smoothing are less sure of themselves.

    Args:
        after: logits [N, C].
        before: logits [N, C], of the same images.
        labels: [N, C], one-hot.
    """
    truth = labels.argmax(axis=1)
    right_after, right_before = after.argmax(axis=1) == truth, before.argmax(axis=1) == truth
    gained, lost = int((right_after & ~right_before).sum()), int((right_before & ~right_after).sum())
    if gained != lost and binomtest(gained, gained + lost).pvalue <= LIKELY:
        return gained > lost
    return tempered_log_loss(after, truth) < tempered_log_loss(before, truth)


def tempered_log_loss(logits: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean log-loss in nats at the temperature, between 1/20 and 20, at which it is least.

    Args:
        logits: [N, C].
        truth: int [N], the classes.
    """
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits.astype(np.float64) / np.exp(log_temperature), axis=1)
        return -float(scaled[rows, truth].mean())

    return float(minimize_scalar(loss, bounds=(-np.log(20), np.log(20)), method="bounded").fun)


def accuracy_and_log_loss(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return the share of right answers and the mean log-loss in nats, of logits and one-hot labels, [N, C] each."""
    log_losses = logsumexp(logits, axis=1) - (logits * labels).sum(axis=1)
    return float((logits.argmax(axis=1) == labels.argmax(axis=1)).mean()), float(log_losses.mean())


def answer_images(classifier: ConcreteFunction, batches: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of all images in batches of (images, one-hot labels), and the labels, float32 [N, C] each."""
    answered = [(classifier(images).numpy(), labels.numpy()) for images, labels in batches]
    logits, labels = (np.concatenate(each) for each in zip(*answered, strict=True))
    return logits, labels


def describe_phase(row: Mapping[str, Any], count: int, first: bool) -> str:
    """Return what a phase brought, in one line.

    Args:
        row: of `Progress.phases`.
        count: of the validation images.
        first: whether no phase was before it, with which it could be compared.
    """
    unfreeze = row["unfreeze"]
    name = "All stages" if unfreeze is None else f"Last {unfreeze} stages" if unfreeze else "Head"
    brought = f"{row['accuracy']:.1%} of {count} validation images" if count else "no validation images to judge by"
    return f"{name}: {brought} in {row['seconds']:.0f} s{'' if first else _VERDICTS[row['kept']]}"


def is_perfect(row: Mapping[str, Any]) -> bool:
    """Return whether a solved head, by its row of `Progress.history`, leaves nothing that fine-tuning could improve."""
    return "strength" in row and row.get("val_accuracy") == 1.0 and (row["accuracy"] or 0.0) >= PERFECT
