"""Metrics against scikit-learn, textbook intervals and figures worked out by hand."""

import json

import numpy as np
import pytest
import sklearn.metrics

from kcnn.evaluation.metrics import (
    classification_metrics,
    expected_calibration_error,
    macro_f1,
    proportion,
    true_class_rank,
)


def random_answers(count, classes, seed=0):
    """Return labels, and probabilities that are right more often than not; class 1 has no examples."""
    random = np.random.default_rng(seed)
    labels = random.choice([c for c in range(classes) if c != 1], count)
    logits = random.normal(size=(count, classes)) + 2 * (np.arange(classes) == labels[:, None])
    exponentials = np.exp(logits)
    return labels, (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32)


# statsmodels' proportion_confint(method="wilson"); Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (8, 10, 0.4902, 0.9433),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_of_the_literature(successes, trials, low, high):
    figure = proportion(successes, trials)
    assert figure["value"] == successes / trials
    assert (figure["low"], figure["high"]) == pytest.approx((low, high), abs=5e-5)


def test_no_trials_no_proportion():
    assert proportion(0, 0) is None


@pytest.mark.parametrize("classes", [2, 7, 30])
def test_agrees_with_scikit_learn(classes):
    labels, probabilities = random_answers(400, classes)
    metrics, matrix = classification_metrics(labels, probabilities, [f"class {c}" for c in range(classes)])
    answers, every = probabilities.argmax(1), np.arange(classes)
    one_hot = np.eye(classes)[labels]
    assert metrics["examples"] == 400
    assert metrics["classes"] == classes
    assert metrics["top1"]["value"] == sklearn.metrics.accuracy_score(labels, answers)
    if classes > 5:
        top5 = sklearn.metrics.top_k_accuracy_score(labels, probabilities, k=5, labels=every)
        assert metrics["top5"]["value"] == pytest.approx(top5)
    assert metrics["macro_f1"]["value"] == pytest.approx(sklearn.metrics.f1_score(labels, answers, average="macro"))
    double = probabilities.astype(float)
    log_loss = sklearn.metrics.log_loss(labels, double / double.sum(1, keepdims=True), labels=every)
    assert metrics["negative_log_likelihood"] == pytest.approx(log_loss, rel=1e-5)
    assert metrics["brier"] == pytest.approx(((probabilities - one_hot) ** 2).sum(1).mean(), rel=1e-5)
    np.testing.assert_array_equal(matrix, sklearn.metrics.confusion_matrix(labels, answers, labels=every))
    precision, recall, f1, support = sklearn.metrics.precision_recall_fscore_support(
        labels, answers, labels=every, zero_division=np.nan
    )
    for c, row in enumerate(metrics["per_class"]):
        assert row["class"] == f"class {c}"
        assert row["support"] == support[c]
        for figure, expected in ((row["precision"], precision[c]), (row["recall"], recall[c])):
            assert figure is None if np.isnan(expected) else figure["value"] == pytest.approx(expected)
        assert row["f1"] is None if np.isnan(f1[c]) else row["f1"] == pytest.approx(f1[c])
    assert metrics["per_class"][1]["recall"] is None  # no examples
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


@pytest.mark.parametrize("classes", [2, 5])
def test_top5_of_five_classes_means_nothing(classes):
    labels, probabilities = random_answers(20, classes)
    assert "top5" not in classification_metrics(labels, probabilities, ["x"] * classes)[0]


def test_rank_breaks_ties_by_index():
    probabilities = np.array([[0.2, 0.2, 0.6], [0.2, 0.2, 0.6], [0.2, 0.2, 0.6]], np.float32)
    np.testing.assert_array_equal(true_class_rank(np.array([0, 1, 2]), probabilities), [1, 2, 0])
    # A model that says nothing does not get every top-1 right.
    labels = np.array([0, 1, 2, 3])
    assert (true_class_rank(labels, np.full((4, 4), 0.25, np.float32)) < 1).tolist() == [True, False, False, False]


def test_bootstrap_is_that_of_resampled_examples():
    labels, probabilities = random_answers(120, 4)
    answers = probabilities.argmax(1)
    matrix = sklearn.metrics.confusion_matrix(labels, answers, labels=range(4))
    random = np.random.default_rng(5)
    draws = [random.integers(0, 120, 120) for _ in range(300)]
    scores = [sklearn.metrics.f1_score(labels[draw], answers[draw], average="macro") for draw in draws]
    figure = macro_f1(matrix, seed=1)
    assert (figure["low"], figure["high"]) == pytest.approx(np.quantile(scores, [0.025, 0.975]), abs=0.02)
    assert figure["high"] - figure["low"] > 0.1
    assert macro_f1(matrix, seed=1) == figure
    assert macro_f1(matrix, seed=2) != figure


def test_calibration_error_by_hand():
    # Bin of 0.9: two of two right, gap 0.1; bin of 0.5: one of two right, gap 0; bin of 1.0: none of one right, gap 1.
    correct = np.array([True, True, True, False, False])
    confidence = np.array([0.9, 0.9, 0.5, 0.5, 1.0])
    assert expected_calibration_error(correct, confidence) == pytest.approx((2 * 0.1 + 2 * 0 + 1 * 1) / 5)


def test_a_certain_mistake_costs_a_finite_score():
    metrics, _ = classification_metrics(np.array([1]), np.array([[1.0, 0.0]], np.float32), ["a", "b"])
    assert metrics["brier"] == 2
    assert 80 < metrics["negative_log_likelihood"] < 90
    assert metrics["macro_f1"]["value"] == 0


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([], np.empty((0, 2)), "do not fit"),
        ([0], np.ones((1, 3)), "do not fit"),
        ([0, 2], np.full((2, 2), 0.5), "labels run from 0 to 2"),
        ([0], np.array([[np.nan, 0.5]]), "finite"),
    ],
)
def test_what_cannot_be_scored(labels, probabilities, message):
    with pytest.raises(ValueError, match=message):
        classification_metrics(np.array(labels, int), probabilities, ["a", "b"])
