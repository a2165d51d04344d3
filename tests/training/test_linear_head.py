"""The solved head against scikit-learn, on real and on made features."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from kcnn.training import linear_head
from kcnn.training.linear_head import fit_logistic, solve_head


def digits(count):
    images, classes = load_digits(return_X_y=True)
    return images[:count].astype(np.float32), np.eye(10, dtype=np.float32)[classes[:count]]


def standardized(features):
    """Scale features as `solve_head` documents: a deviation of 1 / sqrt(D) each; constant ones become 0."""
    deviation = features.std(axis=0, dtype=np.float64)
    scale = np.where(deviation > 0, deviation, np.inf) * np.sqrt(features.shape[1])
    return (features - features.mean(axis=0, dtype=np.float64)) / scale


def scikit_learn(features, labels, strength):
    """Solve the same problem: its C is the inverse of the penalty on the sum of the losses."""
    model = LogisticRegression(C=1 / (strength * len(features)), tol=1e-8, max_iter=10_000)
    return model.fit(features, labels.argmax(axis=1))


@pytest.mark.parametrize("strength", [1.0, 1e-2, 1e-3])
def test_the_optimum_is_scikit_learns(strength):
    features, labels = digits(400)
    features = standardized(features)
    weights = fit_logistic(features, labels, strength)
    expected = scikit_learn(features, labels, strength)
    np.testing.assert_allclose(weights[:-1], expected.coef_.T, atol=1e-3 * np.abs(expected.coef_).max())
    np.testing.assert_allclose(weights[-1] - weights[-1].mean(), expected.intercept_, atol=1e-3)


@pytest.mark.parametrize("count", [50, 300])  # fewer and more than the 64 features, which are solved in other spaces
def test_the_head_takes_features_as_they_come(count):
    features, labels = digits(count)
    features = 100 + 7 * features
    solved = solve_head(features, labels, strengths=[1e-2])
    expected = scikit_learn(standardized(features), labels, 1e-2)
    probabilities = np.exp(expected.predict_log_proba(standardized(features)))
    answers = solved.answer(features)
    answers = np.exp(answers - answers.max(axis=1, keepdims=True))
    np.testing.assert_allclose(answers / answers.sum(axis=1, keepdims=True), probabilities, atol=2e-3)


def test_features_that_do_not_fit_into_memory_give_the_same_head(tmp_path, monkeypatch):
    features, labels = digits(150)
    np.save(tmp_path / "features.npy", features)
    expected = solve_head(features, labels, strengths=[1e-2, 1e-3])
    monkeypatch.setattr(linear_head, "_IN_MEMORY", 0)
    monkeypatch.setattr(linear_head, "_BLOCK", 77)
    found = solve_head(np.load(tmp_path / "features.npy", mmap_mode="r"), labels, strengths=[1e-2, 1e-3])
    assert found.strength == expected.strength
    np.testing.assert_allclose(found.answer(features), expected.answer(features), atol=0.05)


def test_the_accuracy_is_that_of_images_left_out():
    features, labels = digits(300)
    solved = solve_head(features, labels)
    model = LogisticRegression(C=1 / (solved.strength * 240), max_iter=5000)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    expected = cross_val_score(model, standardized(features), labels.argmax(axis=1), cv=folds).mean()
    assert solved.judged == 300
    assert solved.accuracy == pytest.approx(expected, abs=0.025)
    unseen, answers = load_digits(return_X_y=True)
    assert (solved.answer(unseen[300:].astype(np.float32)).argmax(axis=1) == answers[300:]).mean() > 0.85


def test_noise_is_held_down():
    """Labels by chance: chance is what the head comes to."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 300)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 200)]
    solved = solve_head(features, labels)
    assert solved.log_loss == pytest.approx(np.log(4), abs=0.06)


def test_the_views_of_an_image_are_left_out_together():
    """Copies of the same noise would be recognised, were they not."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(100, 300)).astype(np.float32)
    labels = np.eye(4, dtype=np.float32)[rng.integers(0, 4, 100)]
    assert solve_head(np.concatenate([features] * 3), labels, views=3).accuracy < 0.45


@pytest.mark.parametrize("counts", [(1, 1), (1, 5), (2, 2)])
def test_a_class_may_have_one_image(counts):
    rng = np.random.default_rng(0)
    classes = np.repeat([0, 1], counts)
    features = (rng.normal(size=(len(classes), 6)) + 20 * classes[:, None]).astype(np.float32)
    solved = solve_head(features, np.eye(2, dtype=np.float32)[classes])
    assert (solved.answer(features).argmax(axis=1) == classes).all()
    assert (solved.accuracy is None) == (counts == (1, 1))
