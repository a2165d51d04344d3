"""Slices, and the tests that compare a model with the one before, against scipy and figures worked out by hand."""

import itertools
import time

import numpy as np
import pytest
from scipy.stats import binomtest

from kcnn.checks import Check, failures
from kcnn.data.records import TFExample
from kcnn.evaluation import slices
from kcnn.evaluation.gate import (
    LEVEL,
    Baseline,
    check_accuracy,
    check_not_worse,
    commonest_class_warning,
    holm,
    mcnemar,
)
from kcnn.evaluation.slices import SMALLEST, Attribute, AttributeCollector, least_accurate, slice_rows


def test_mcnemar_is_scipys_exact_one_sided_test():
    for lost, won in itertools.product([0, 1, 2, 7, 8, 40], [0, 1, 2, 9, 55]):
        if lost + won:
            expected = binomtest(lost, lost + won, alternative="greater").pvalue
            assert mcnemar(np.array(lost), np.array(won)) == pytest.approx(expected)


def test_mcnemar_by_hand():
    lost, won = np.array([8, 5, 0, 0]), np.array([2, 0, 5, 0])
    # (45 + 10 + 1) of 1024 ways, 1 of 32, all, and nothing to tell by.
    np.testing.assert_allclose(mcnemar(lost, won), [56 / 1024, 1 / 32, 1, 1])


def test_holm_by_hand():
    # R: p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.5, 0.9])), [1, 1])
    assert holm(np.array([])).shape == (0,)


def test_holm_rejects_what_its_step_down_definition_rejects():
    random = np.random.default_rng(0)
    for _ in range(50):
        p = random.uniform(0, 0.1, 6)
        rejected = np.zeros(6, bool)
        for step, index in enumerate(np.argsort(p)):  # until the first that is not below its level
            if p[index] > LEVEL / (6 - step):
                break
            rejected[index] = True
        np.testing.assert_array_equal(holm(p) <= LEVEL, rejected)


def halves(count):
    """Return an attribute of two values, which the examples have in turns."""
    return Attribute("class", ("cat", "dog"), np.arange(count) % 2)


def answers(count, *wrong):
    correct = np.ones(count, bool)
    correct[list(wrong)] = False
    return correct


def by_name(checks):
    return {check.slice or check.name: check for check in checks}


def test_a_worse_model_is_found_and_a_better_or_equal_one_is_not():
    good, bad = answers(100, 0), answers(100, *range(0, 20, 2))
    (overall, cat, dog) = check_not_worse(bad, [halves(100)], Baseline("m/1", good))
    assert overall.passed is False
    assert overall.details == {"examples": 100, "lost": 9, "won": 0}
    assert overall.figure == pytest.approx(binomtest(9, 9, alternative="greater").pvalue)
    assert "worse than m/1 on the same 100 test images: 9 that it gets right are wrong" in overall.said
    assert "level 0.05" in overall.said
    assert (cat.slice, cat.passed, dog.slice, dog.passed) == ("class=cat", False, "class=dog", True)
    assert cat.figure == pytest.approx(2 / 2**9)  # one of two slices
    assert all(check.passed for check in check_not_worse(good, [halves(100)], Baseline("m/1", bad)))
    assert all(check.passed for check in check_not_worse(bad, [halves(100)], Baseline("m/1", bad)))


def test_a_slice_that_gets_worse_is_found_behind_a_better_whole():
    baseline, candidate = answers(400, *range(1, 101, 2)), answers(400, *range(0, 40, 2))
    found = by_name(check_not_worse(candidate, [halves(400)], Baseline("m/1", baseline)))
    assert found["not_worse"].passed  # 20 lost, 50 won
    assert found["class=cat"].passed is False
    assert found["class=dog"].passed


def test_a_small_slice_is_neither_passed_nor_failed():
    size = Attribute("size", ("few", "many"), (np.arange(100) >= SMALLEST - 1).astype(int))
    nothing = np.zeros(100, bool)
    found = by_name(check_not_worse(nothing, [size], Baseline("m/1", ~nothing)))
    assert found["size=few"].passed is None
    assert found["size=few"].figure is None
    assert "19 test images, too few to tell" in found["size=few"].said
    assert found["size=many"].passed is False
    assert "over 1 slices" in found["size=many"].said  # the small one takes nothing from it
    found = by_name(check_accuracy(nothing, [size], 0.0, 0.5))
    assert (found["size=few"].passed, found["size=many"].passed) == (None, False)


def test_absolute_bounds():
    correct = answers(100, *range(0, 30, 2))  # 85 right; of the cats 35 of 50
    assert [check.passed for check in check_accuracy(correct, [halves(100)], 0.0, 0.0)] == [True]
    assert check_accuracy(correct, [], 0.85, 0.0)[0].passed
    (overall, cat, dog) = check_accuracy(correct, [halves(100)], 0.86, 0.8)
    assert overall.passed is False
    assert overall.said.startswith("accuracy 85.0% (95% interval ")
    assert overall.said.endswith("on 100 test images, below --min_accuracy 0.86")
    assert (cat.passed, cat.figure, dog.passed) == (False, 0.7, True)


def test_always_answering_the_commonest_class_is_warned_of():
    labels = np.array([0] * 60 + [1] * 40)
    constant = {"value": 0.6, "low": 0.5, "high": 0.69}
    warning = commonest_class_warning(labels, ["cat", "dog"], constant)
    assert "always answering 'cat', which is right for 60.0%" in warning
    assert commonest_class_warning(labels, ["cat", "dog"], {"value": 0.9, "low": 0.82, "high": 0.94}) is None


def test_failures_name_the_worst_slice_and_the_others():
    checks = [
        Check("accuracy", False, "too bad"),
        Check("slice", False, "b is bad", "x=b", 0.04),
        Check("slice", False, "a is worse", "x=a", 0.01),
        Check("slice", None, "c is small", "x=c"),
        Check("latency", True, "quick"),
    ]
    assert failures(checks) == ["too bad", "a is worse; likewise x=b"]


def record(width=100, height=80, kind="JPEG", **columns):
    example = TFExample()
    for name, value in {"height": height, "width": width}.items():
        example.features.feature[f"image/{name}"].int64_list.value.append(value)
    for name, value in {"format": kind, **{f"column/{name}": value for name, value in columns.items()}}.items():
        example.features.feature[f"image/{name}"].bytes_list.value.append(value.encode())
    return example.features.feature


def collect(labels, records, names=("cat", "dog")):
    collector = AttributeCollector()
    for feature in records:
        collector.add(feature)
    return {attribute.name: attribute for attribute in collector.attributes(np.array(labels), names)}


def test_records_are_divided_by_what_they_say():
    found = collect(
        [1, 0, 1, 1, 0],
        [
            record(9, 200),
            record(1000, 16),
            record(8, 7, site="Århus"),
            record(17, 17, kind="PNG", site="Bern", size="L"),
            record(1, 1, site="Århus"),
        ],
    )
    assert list(found) == ["class", "size", "format", "column size", "site"]
    assert found["class"].slice_names() == ["class=cat", "class=dog"]
    assert found["size"].values == ("1 to 8 px", "9 to 16 px", "17 to 32 px")  # by the shorter side
    assert found["size"].codes.tolist() == [1, 1, 0, 2, 0]
    assert found["format"].codes.tolist() == [0, 0, 0, 1, 0]
    assert found["site"].values == ("(none)", "Bern", "Århus")
    assert found["site"].codes.tolist() == [0, 0, 2, 1, 2]
    assert found["column size"].values == ("(none)", "L")


def test_what_does_not_divide_is_no_slice():
    assert collect([1, 1], [record(site="x"), record(site="x")]) == {}


def test_of_too_many_values_the_rarest_are_one_slice(monkeypatch):
    monkeypatch.setattr(slices, "MOST_VALUES", 2)
    found = collect([0] * 6, [record(site=site) for site in ("10", "9", "10", "9", "1", "2")])
    assert found["site"].values == ("9", "10", "(2 rarer values)")
    assert found["site"].codes.tolist() == [1, 0, 1, 0, 2, 2]


def test_table_and_the_worst():
    correct = answers(100, *range(0, 30, 2), 1)
    rows = slice_rows([halves(100), Attribute("size", ("s", "m"), (np.arange(100) >= 3).astype(int))], correct)
    assert [(row["attribute"], row["value"], row["examples"], row["correct"], row["judged"]) for row in rows] == [
        ("class", "cat", 50, 35, True),
        ("class", "dog", 50, 49, True),
        ("size", "s", 3, 0, False),
        ("size", "m", 97, 84, True),
    ]
    expected = binomtest(35, 50).proportion_ci(0.95, method="wilson")
    assert rows[0]["accuracy"] == pytest.approx({"value": 0.7, "low": expected.low, "high": expected.high})
    assert [row["value"] for row in least_accurate(rows, 0.84, 3)] == ["cat"]


def test_a_million_examples_take_seconds():
    random = np.random.default_rng(0)
    count = 1_000_000
    attributes = [
        Attribute(name, tuple(map(str, range(1000))), random.integers(0, 1000, count)) for name in ("a", "b", "c")
    ]
    before, after = random.random(count) < 0.9, random.random(count) < 0.9
    start = time.process_time()
    slice_rows(attributes, after)
    checks = check_not_worse(after, attributes, Baseline("m/1", before))
    assert time.process_time() - start < 5
    assert len(checks) == 3001
    assert sum(check.passed is False for check in checks) <= 1  # there is nothing to find
