"""The gate before publication: a model is good enough, and not worse than the one before on the same examples."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import binom

from kcnn.checks import Check
from kcnn.evaluation.metrics import proportion
from kcnn.evaluation.slices import SMALLEST, Attribute

LEVEL = 0.05  # significance level: of the test over all examples, and of all slices' tests together


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The model that another is compared with.

    Attributes:
        name: as messages give it.
        correct: bool [N], which of its answers are right, in the order of the records.
    """

    name: str
    correct: np.ndarray


def mcnemar(lost: np.ndarray, won: np.ndarray) -> np.ndarray:
    """Return the one-sided exact p-values of McNemar's test.

    A p-value is the probability of as many losses or more, if losses and wins were equally probable. It is that of
    `scipy.stats.binomtest(lost, lost + won, alternative="greater")`.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12,
    1947.

    Args:
        lost: int [...], examples that the old model answers rightly and the new one does not.
        won: int [...], examples that the new model answers rightly and the old one does not.

    Returns:
        float [...], 0 to 1; 1 where there are neither losses nor wins.
    """
    return np.where(np.add(lost, won) > 0, binom.sf(np.subtract(lost, 1), np.maximum(np.add(lost, won), 1), 0.5), 1.0)


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust the p-values of M tests so that a level holds for all of them together.

    Where there is nothing to find, the probability that any adjusted p-value is at or below a level is at most that
    level.

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.

    Args:
        p: float [M].

    Returns:
        float [M], in the same order.
    """
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return adjusted


def check_accuracy(
    correct: np.ndarray, attributes: Sequence[Attribute], min_accuracy: float, min_slice_accuracy: float
) -> list[Check]:
    """Check the accuracies against bounds: "accuracy", and "slice_accuracy" for every slice when a bound is given.

    Args:
        correct: bool [N], N ≥ 1, which answers are right.
        attributes: of the N examples.
        min_accuracy: of all examples, 0 to 1.
        min_slice_accuracy: of each slice that has enough examples, 0 to 1; 0 for no check.
    """
    figure = proportion(int(correct.sum()), len(correct))
    assert figure is not None
    reached = figure["value"] >= min_accuracy
    interval = f"{figure['value']:.1%} (95% interval {figure['low']:.1%} to {figure['high']:.1%})"
    said = f"accuracy {interval} on {len(correct)} test images"
    if min_accuracy or not reached:
        said += f", {'not below' if reached else 'below'} --min_accuracy {min_accuracy:g}"
    checks = [Check("accuracy", reached, said, figure=figure["value"], bound=min_accuracy, details=figure)]
    for attribute in attributes if min_slice_accuracy else ():
        examples, right = attribute.count(np.ones(len(correct), bool)), attribute.count(correct)
        for name, hits, count in zip(attribute.slice_names(), right.tolist(), examples.tolist(), strict=True):
            passed = hits / count >= min_slice_accuracy if count >= SMALLEST else None
            end = {
                True: f", not below --min_slice_accuracy {min_slice_accuracy:g}",
                False: f", below --min_slice_accuracy {min_slice_accuracy:g}",
                None: _too_small(),
            }[passed]
            said = f"{name}: accuracy {hits / count:.1%} on {count} test images{end}"
            checks.append(Check("slice_accuracy", passed, said, name, hits / count, min_slice_accuracy))
    return checks


def check_not_worse(correct: np.ndarray, attributes: Sequence[Attribute], baseline: Baseline) -> list[Check]:
    """Check a model against the one before, on all examples ("not_worse") and on each slice ("slice_not_worse").

    A check fails when McNemar's test finds the model worse: at `LEVEL` over all examples, and over the slices at
    `LEVEL` for all of them together, by Holm's correction. `figure` is the (adjusted) p-value, `bound` the level.

    Args:
        correct: bool [N], which answers are right.
        attributes: of the N examples.
        baseline: the model before.
    """
    lost, won = baseline.correct & ~correct, correct & ~baseline.correct

    def said(where: str, counts: Mapping[str, float], figure: float, kind: str, passed: bool) -> str:
        return (
            f"{where}{'not worse' if passed else 'worse'} than {baseline.name} on the same {counts['examples']} test "
            f"images: {counts['lost']} that it gets right are wrong, {counts['won']} that it gets wrong are right "
            f"(one-sided exact McNemar test, {kind} = {figure:.2g}, level {LEVEL:g})"
        )

    p = float(mcnemar(lost.sum(), won.sum()))
    passed = p > LEVEL
    details = {"examples": len(correct), "lost": int(lost.sum()), "won": int(won.sum())}
    checks = [Check("not_worse", passed, said("", details, p, "p", passed), None, p, LEVEL, details)]

    rows = [
        (name, {"examples": count, "lost": losses, "won": wins})
        for attribute in attributes
        for name, count, losses, wins in zip(
            attribute.slice_names(),
            attribute.count(np.ones(len(correct), bool)).tolist(),
            attribute.count(lost).tolist(),
            attribute.count(won).tolist(),
            strict=True,
        )
    ]
    tested = [(name, details) for name, details in rows if details["examples"] >= SMALLEST]
    counts = np.array([[details["lost"], details["won"]] for _, details in tested], np.int64).reshape(-1, 2)
    adjusted = dict(zip([name for name, _ in tested], holm(mcnemar(counts[:, 0], counts[:, 1])).tolist(), strict=True))
    for name, details in rows:
        if name in adjusted:
            p = adjusted[name]
            text = said(f"{name}: ", details, p, f"Holm's p over {len(tested)} slices", p > LEVEL)
            checks.append(Check("slice_not_worse", p > LEVEL, text, name, p, LEVEL, details))
        else:
            text = f"{name}: not compared with {baseline.name} on {details['examples']} test images{_too_small()}"
            checks.append(Check("slice_not_worse", None, text, name, None, LEVEL, details))
    return checks


def _too_small() -> str:
    return f", too few to tell (fewer than {SMALLEST})"


def commonest_class_warning(labels: np.ndarray, class_names: Sequence[str], accuracy: dict[str, Any]) -> str | None:
    """Return a warning where a model cannot be told from one that always answers the commonest class.

    Args:
        labels: int64 [N], N ≥ 1, the true classes of the test images.
        class_names: the classes' names.
        accuracy: the model's "value", with "low" and "high" of its interval.

    Returns:
        one line; None where the model is better.
    """
    counts = np.bincount(labels)
    share = counts.max() / len(labels)
    if accuracy["low"] > share:
        return None
    return (
        f"the model cannot be told from always answering {class_names[int(counts.argmax())]!r}, which is right for "
        f"{share:.1%} of the test images: it is right for {accuracy['value']:.1%} "
        f"(95% interval {accuracy['low']:.1%} to {accuracy['high']:.1%})"
    )
