"""Schedules against their formulas."""

import keras
import numpy as np
import pytest

from kcnn.config import _CHOICES
from kcnn.training.plateau import Plateau, plateau_factor
from kcnn.training.schedules import SCHEDULES, warmup_cosine


def test_warmup_is_linear_and_decay_is_half_a_cosine():
    schedule = warmup_cosine(0.8, steps=100, warmup=0.1)
    rates = np.array([float(schedule(step)) for step in range(100)])
    np.testing.assert_allclose(rates[:10], 0.08 + (0.8 - 0.08) * np.arange(10) / 10, rtol=1e-5)
    np.testing.assert_allclose(rates[10:], 0.4 * (1 + np.cos(np.pi * np.arange(90) / 90)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_train_too(steps):
    assert max(float(warmup_cosine(0.8, steps, 0.1)(step)) for step in range(steps)) > 0.3


def rates(name, steps, warmup=0.0, peak=0.8):
    schedule = SCHEDULES[name](peak, steps, warmup)
    return np.array([float(schedule(keras.ops.convert_to_tensor(step, "int64"))) for step in range(steps)])


def restarts(part):
    """Three cycles, each twice as long as the one before, from 1 to 0 along half a cosine."""
    begin, length = max((b, n) for b, n in ((0, 1 / 7), (1 / 7, 2 / 7), (3 / 7, 4 / 7)) if b <= part + 1e-9)
    return (1 + np.cos(np.pi * (part - begin) / length)) / 2


FORMULAS = {
    "constant": lambda part: 1.0,
    "step": lambda part: 1.0 if part < 0.5 else 0.1 if part < 0.75 else 0.01,
    "plateau": lambda part: 1.0,
    "cosine": lambda part: (1 + np.cos(np.pi * part)) / 2,
    "cosine_restarts": restarts,
    "polynomial": lambda part: (1 - part) ** 2,
    "exponential": lambda part: 0.01**part,
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("warmup", [0.0, 0.3])
def test_after_a_linear_rise_each_follows_its_formula(name, warmup):
    steps = 140
    rising = round(warmup * steps)
    found = rates(name, steps, warmup)
    rise = [0.8 / rising + (0.8 - 0.8 / rising) * step / rising for step in range(rising)]
    rest = [0.8 * FORMULAS[name](step / (steps - rising)) for step in range(steps - rising)]
    np.testing.assert_allclose(found, rise + rest, rtol=2e-4, atol=1e-6)


def annealed(start, end, part):
    return end + (start - end) / 2 * (1 + np.cos(np.pi * part))


@pytest.mark.parametrize("steps", [20, 137])
def test_one_cycle_is_pytorchs(steps):
    """OneCycleLR with its defaults: pct_start 0.3, div_factor 25, final_div_factor 1e4, cosines."""
    first, top, last = 0.8 / 25, 0.3 * steps - 1, steps - 1
    expected = [
        annealed(first, 0.8, t / top) if t <= top else annealed(0.8, first / 1e4, (t - top) / (last - top))
        for t in range(steps)
    ]
    np.testing.assert_allclose(rates("one_cycle", steps), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_have_rates(name, steps):
    found = rates(name, steps, 0.1)
    assert np.isfinite(found).all()
    assert 0.3 < found.max() <= 0.8 + 1e-6


def test_the_flag_knows_all():
    assert set(_CHOICES["schedule"]) == set(SCHEDULES)


def test_a_plateau_divides_by_ten_and_counts_anew():
    scores = [(0.5, -1.0), (0.6, -1.0), (0.6, -1.1), (0.5, -0.1), (0.6, -1.0), (0.6, -0.9), (0.1, 0.0), (0.1, 0.0)]
    factors = [plateau_factor(scores[:epochs], patience=2) for epochs in range(len(scores) + 1)]
    np.testing.assert_allclose(factors, [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01])
    schedule = SCHEDULES["plateau"](0.8, 10, 0.2)
    assert isinstance(schedule, Plateau)
    schedule.factor.assign(0.1)
    np.testing.assert_allclose([float(schedule(step)) for step in (0, 1, 2, 9)], [0.04, 0.06, 0.08, 0.08], rtol=1e-6)
