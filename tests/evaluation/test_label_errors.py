"""Planted wrong labels are found, right ones are left alone, and no copy of a picture vouches for another."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from threadpoolctl import threadpool_limits

from kcnn.evaluation import label_errors
from kcnn.evaluation.label_errors import (
    Audit,
    LabelError,
    audit_labels,
    group_copies,
    predict_out_of_fold,
    reduce_dimensions,
    spread_over_bins,
)
from kcnn.evaluation.label_page import pictured_files, render_label_page


@pytest.fixture(scope="module")
def digits():
    """Return pixels, labels (3% are wrong), the wrong ones, and the images that a network counts as trained on."""
    pixels, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = rng.random(len(labels)) < 0.03
    given = np.where(wrong, (labels + rng.integers(1, 10, len(labels))) % 10, labels)
    return pixels.astype(np.float32), given, wrong, rng.random(len(labels)) < 0.7


def test_wrong_labels_come_first_and_suggestions_are_the_right_ones(digits):
    pixels, given, wrong, trained_on = digits
    found = audit_labels(pixels, given, np.arange(len(given)), trained_on)
    ranked = [doubt.index for doubt in found.doubts]
    assert wrong[ranked[:30]].mean() > 0.9
    sure = [doubt for doubt in found.doubts if doubt.wrong]
    assert len(sure) > wrong.sum() / 2
    assert wrong[[doubt.index for doubt in sure]].mean() > 0.9
    _, labels = load_digits(return_X_y=True)
    assert np.mean([labels[doubt.index] == doubt.suggested for doubt in sure if wrong[doubt.index]]) > 0.9
    assert [doubt.score for doubt in found.doubts] == sorted(doubt.score for doubt in found.doubts)
    assert found.images == len(given)
    assert 0.85 < found.accuracy < 0.97
    assert not found.by_heart


def test_right_labels_are_left_alone():
    pixels, labels = load_digits(return_X_y=True)
    found = audit_labels(pixels, labels, np.arange(len(labels)), np.ones(len(labels), bool))
    assert sum(doubt.wrong for doubt in found.doubts) <= 0.003 * len(labels)
    assert found.accuracy is None
    assert found.accuracy_trained > 0.95


def test_audits_in_parts_find_as_much_and_of_asked_labels_alone(digits, monkeypatch):
    pixels, given, wrong, trained_on = digits
    monkeypatch.setattr(label_errors, "_PART_BYTES", 4 * 10 * 700)  # three parts
    found = audit_labels(pixels, given, np.arange(len(given)), trained_on)
    assert found.images == len(given)
    assert wrong[[doubt.index for doubt in found.doubts][:30]].mean() > 0.8
    asked = audit_labels(pixels, given, np.arange(len(given)), trained_on, ~trained_on)
    assert asked.images == (~trained_on).sum()
    assert asked.doubts
    assert not trained_on[[doubt.index for doubt in asked.doubts]].any()


def test_labels_that_were_learned_by_heart_are_noticed(digits):
    pixels, given, _, trained_on = digits
    learned = np.where(trained_on[:, None], 20 * np.eye(10)[given], 0)
    found = audit_labels(np.concatenate([pixels, 10 * learned], axis=1), given, np.arange(len(given)), trained_on)
    assert found.accuracy_trained > 0.99
    assert found.by_heart


def test_answers_are_those_of_scikit_learn(digits, monkeypatch):
    pixels, given, _, _ = digits
    features, folds = pixels / pixels.std(), spread_over_bins(given, np.arange(len(given)), 5)
    monkeypatch.setattr(label_errors, "_PENALTIES", (0.01,))
    with threadpool_limits(1):
        expected = cross_val_predict(
            LogisticRegression(C=0.01), features, given, cv=PredefinedSplit(folds), method="predict_proba"
        )
        np.testing.assert_allclose(predict_out_of_fold(features, given, folds), expected, atol=1e-3)


def test_folds_part_no_copies_and_have_all_classes():
    rng = np.random.default_rng(1)
    labels, groups = rng.integers(0, 7, 1000), np.unique(rng.integers(0, 600, 1000), return_inverse=True)[1]
    folds = spread_over_bins(labels, groups, 5)
    assert all(len(set(folds[groups == number])) == 1 for number in range(groups.max() + 1))
    counts = np.array([[np.sum(folds[labels == label] == fold) for fold in range(5)] for label in range(7)])
    assert counts.min() > 0
    alone = spread_over_bins(labels, np.arange(1000), 5)
    counts = np.array([[np.sum(alone[labels == label] == fold) for fold in range(5)] for label in range(7)])
    assert np.ptp(counts, axis=1).max() <= 1
    assert np.ptp(counts.sum(axis=0)) <= 1


def test_copies_are_one_group():
    groups = group_copies(["a", "b", "c", "d", "e"], [("d", "a"), ("b", "e")])
    assert groups[0] == groups[3]
    assert groups[1] == groups[4]
    assert len(set(groups)) == 3


@pytest.mark.parametrize("counts", [(1, 40), (1, 1), (2, 1, 40, 40), (3, 3), (40,)])
def test_classes_of_few_images_are_judged_only_where_others_teach_them(counts):
    rng = np.random.default_rng(2)
    labels = np.repeat(np.arange(len(counts)), counts)
    features = rng.normal(size=(len(labels), 3)) + 30 * np.eye(max(3, len(counts)))[labels][:, :3]
    found = audit_labels(features, labels, np.arange(len(labels)), np.ones(len(labels), bool))
    several = [count for count in counts if count > 1]
    assert found.images == (sum(several) if len(several) > 1 else 0)
    assert not any(doubt.wrong for doubt in found.doubts)


@pytest.mark.parametrize("held_out", [[0] * 12, [2] * 12, [1], []])
def test_labels_to_judge_may_be_of_one_class_or_none(held_out):
    labels = np.concatenate([np.array(held_out, int), np.repeat([0, 1, 2], 30)])
    features = np.random.default_rng(4).normal(size=(len(labels), 3)) + 30 * np.eye(3)[labels]
    asked = np.arange(len(labels)) < len(held_out)
    found = audit_labels(features, labels, np.arange(len(labels)), ~asked, asked)
    assert (found.images, found.doubts) == (len(held_out), ())


def test_principal_components_keep_distances(tmp_path):
    rng = np.random.default_rng(3)
    basis = stats.special_ortho_group.rvs(300, random_state=3)[:20]
    points = rng.normal(size=(500, 20))
    np.save(tmp_path / "features.npy", (points @ basis).astype(np.float32))
    reduced = reduce_dimensions(np.load(tmp_path / "features.npy", mmap_mode="r"))
    assert reduced.shape == (500, label_errors.COMPONENTS)
    assert reduced.dtype == np.float32
    here, there = (np.linalg.norm(each[0] - each[1:], axis=1) for each in (points, reduced))
    assert stats.pearsonr(here, there).statistic > 0.999


def test_the_page_shows_the_worst_and_nothing_of_a_name_is_markup():
    errors = [
        LabelError(f"<b>{index}</b>.jpg", "train", "cat", "dog<i>", 0.001, 0.9, wrong=index < 120)
        for index in range(300)
    ]
    found = Audit((), 1000, 0.75, 0.8, by_heart=False)
    shown = pictured_files(errors)
    assert shown == {error.filename for error in [*errors[:96], *errors[120:216]]}
    html = render_label_page("a & b", found, "the network sees", errors, dict.fromkeys(shown, b"\x00"))
    assert "120 images of 1,000 look mislabelled, 180 more are doubtful" in html
    assert "the first 96 of 120" in html
    assert "the first 96 of 180" in html
    assert html.count("<img") == 192
    assert "<b>0" not in html
    assert "<i>" not in html
    assert "75.0%" in html
    nothing = render_label_page("digits", dataclasses.replace(found, accuracy=None), "the network sees", [], {})
    assert "0 images of 1,000 look mislabelled" in nothing
    assert "<img" not in nothing
