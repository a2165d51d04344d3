"""Which of two networks the validation images prefer."""

import numpy as np
import pytest
from scipy.special import log_softmax
from sklearn.metrics import log_loss

from kcnn.training.judging import is_better, tempered_log_loss

TRUTH = np.arange(60) % 3
LABELS = np.eye(3)[TRUTH]


def answers(wrong, confidence=4.0):
    """Return logits that are right but for the first `wrong` images."""
    given = TRUTH.copy()
    given[:wrong] = (given[:wrong] + 1) % 3
    return confidence * np.eye(3)[given]


def test_many_more_right_answers_are_better():
    assert is_better(answers(5), answers(20), LABELS)
    assert not is_better(answers(20), answers(5), LABELS)


def test_equal_answers_are_no_better():
    assert not is_better(answers(5), answers(5), LABELS)


def test_one_answer_more_or_less_is_chance_and_the_log_loss_decides():
    surer = answers(6)
    surer[6:] += np.eye(3)[TRUTH[6:]] * 3
    unsure = answers(5)
    unsure[30:] *= 0.1
    assert is_better(surer, unsure, LABELS)
    assert not is_better(unsure, surer, LABELS)


def test_being_less_sure_of_everything_is_no_fault():
    """Label smoothing shrinks logits; the temperature undoes that."""
    assert tempered_log_loss(answers(6, 0.5), TRUTH) == pytest.approx(tempered_log_loss(answers(6, 5.0), TRUTH))


def test_the_log_loss_is_scikit_learns_at_the_best_temperature():
    logits = np.random.default_rng(0).normal(size=(60, 3)) + LABELS
    grid = [
        log_loss(TRUTH, np.exp(log_softmax(logits / temperature, axis=1)))
        for temperature in np.geomspace(0.05, 20, 999)
    ]
    assert tempered_log_loss(logits, TRUTH) == pytest.approx(min(grid), abs=1e-4)
