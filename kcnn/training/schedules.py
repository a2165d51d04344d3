"""Schedules: the learning rate of each step. `--schedule` names one of them.

All but `one_cycle`, which rises by itself, begin with a warm-up: the rate rises linearly to its peak (Goyal et al.,
"Accurate, Large Minibatch SGD", 2017, section 2.2). What a schedule does then, it does over the steps that are left.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import keras
import tensorflow as tf

from kcnn.training.plateau import Plateau

LearningRateSchedule: TypeAlias = keras.optimizers.schedules.LearningRateSchedule
# peak rate, steps of the whole schedule, the part of them over which the rate rises
Schedule = Callable[[float, int, float], LearningRateSchedule]

DROPS = (0.5, 0.75)  # parts of the steps after which `step` divides the rate by 10
LEFT = 0.01  # of the peak, at the end of `exponential`
POWER = 2.0  # of `polynomial`
CYCLES = 3  # of `cosine_restarts`, each twice as long as the one before
RISE, START, END = (
    0.3,
    1 / 25,
    1 / 250_000,
)  # of `one_cycle`: the part that rises; its first and last rate over the peak


def warmup_cosine(peak: float, steps: int, warmup: float) -> LearningRateSchedule:
    """Return a schedule that rises linearly, then falls to 0 along half a cosine.

    Source: Loshchilov & Hutter, "SGDR", ICLR 2017.

    Args:
        peak: the highest learning rate.
        steps: of the whole schedule.
        warmup: the part of the steps over which the rate rises, 0 to 1.
    """
    rising = _rising_steps(steps, warmup)
    if not rising:
        return keras.optimizers.schedules.CosineDecay(peak, decay_steps=steps)
    return keras.optimizers.schedules.CosineDecay(
        peak / rising, decay_steps=steps - rising, warmup_target=peak, warmup_steps=rising
    )


def one_cycle(peak: float, steps: int, warmup: float) -> LearningRateSchedule:
    """Return a schedule that rises for 30% of the steps from a 25th of the peak, then falls to almost 0.

    Both ways go along half a cosine, and the last step has the last rate, as in fastai and PyTorch's OneCycleLR.
    Momentum stays what it is. Source: Smith & Topin, "Super-Convergence", 2018.

    Args:
        peak: the highest learning rate.
        steps: of the whole schedule.
        warmup: not used: the rate rises by itself.
    """
    del warmup
    return OneCycle(peak, steps)


@keras.saving.register_keras_serializable("kcnn")
class OneCycle(LearningRateSchedule):
    """See `one_cycle`."""

    def __init__(self, peak: float, steps: int):
        self.peak, self.steps = peak, steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the rate of a step, a float32 scalar."""
        at, last, top = tf.cast(step, tf.float32), float(self.steps - 1), RISE * self.steps - 1
        rise = tf.clip_by_value(at / top if top > 0 else 1.0, 0.0, 1.0)
        fall = tf.clip_by_value((at - max(top, 0.0)) / max(last - max(top, 0.0), 1.0), 0.0, 1.0)
        share = tf.where(at < top, _half_cosine(START, 1.0, rise), _half_cosine(1.0, END, fall))
        return self.peak * share

    def get_config(self) -> dict[str, float]:
        """Return what makes the same schedule."""
        return {"peak": self.peak, "steps": self.steps}


@keras.saving.register_keras_serializable("kcnn")
class WarmUp(LearningRateSchedule):
    """A linear rise from `peak / steps` to `peak`, as Keras' CosineDecay has one, and another schedule after it."""

    def __init__(self, peak: float, steps: int, after: LearningRateSchedule):
        self.peak, self.steps, self.after = peak, steps, after

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the rate of a step, a float32 scalar."""
        step, first = tf.convert_to_tensor(step), self.peak / self.steps
        rise = first + (self.peak - first) * tf.cast(step, tf.float32) / self.steps
        return tf.where(step < self.steps, rise, self.after(tf.maximum(step - self.steps, 0)))

    def get_config(self) -> dict[str, object]:
        """Return what makes the same schedule."""
        return {"peak": self.peak, "steps": self.steps, "after": self.after}


def _rising_steps(steps: int, warmup: float) -> int:
    return min(steps - 1, max(1, round(warmup * steps))) if warmup and steps > 1 else 0


def _half_cosine(start: float, end: float, part: tf.Tensor) -> tf.Tensor:
    return end + (start - end) / 2 * (1 + tf.cos(math.pi * part))


def _warmed(decay: Callable[[float, int], LearningRateSchedule]) -> Schedule:
    """Return a schedule that warms up, and then does what `decay` does over the steps that are left."""

    def schedule(peak: float, steps: int, warmup: float) -> LearningRateSchedule:
        rising = _rising_steps(steps, warmup)
        after = decay(peak, steps - rising)
        return WarmUp(peak, rising, after) if rising else after

    return schedule


def _constant(peak: float, steps: int) -> LearningRateSchedule:
    return keras.optimizers.schedules.PolynomialDecay(peak, steps, end_learning_rate=peak)


def _step(peak: float, steps: int) -> LearningRateSchedule:
    """Divide by 10 after half and three quarters of the steps (He et al., CVPR 2016, section 4.2)."""
    ends = [math.ceil(part * steps) - 1 for part in DROPS]  # Keras counts a boundary to what is before it
    return keras.optimizers.schedules.PiecewiseConstantDecay(ends, [peak / 10**drop for drop in range(len(ends) + 1)])


def _cosine_restarts(peak: float, steps: int) -> LearningRateSchedule:
    """Fall from the peak to 0 along half a cosine in each cycle (Loshchilov & Hutter, ICLR 2017, T_mult 2)."""
    first = math.ceil(steps / (2**CYCLES - 1))
    return keras.optimizers.schedules.CosineDecayRestarts(peak, first, t_mul=2.0, m_mul=1.0)


def _polynomial(peak: float, steps: int) -> LearningRateSchedule:
    """Fall to 0 along a parabola (You et al., "Large Batch Training of Convolutional Networks", 2017)."""
    return keras.optimizers.schedules.PolynomialDecay(peak, steps, end_learning_rate=0.0, power=POWER)


def _exponential(peak: float, steps: int) -> LearningRateSchedule:
    return keras.optimizers.schedules.ExponentialDecay(peak, steps, LEFT)


SCHEDULES: dict[str, Schedule] = {
    "constant": _warmed(_constant),
    "step": _warmed(_step),
    "plateau": lambda peak, steps, warmup: Plateau(_warmed(_constant)(peak, steps, warmup)),
    "cosine": warmup_cosine,
    "cosine_restarts": _warmed(_cosine_restarts),
    "polynomial": _warmed(_polynomial),
    "exponential": _warmed(_exponential),
    "one_cycle": one_cycle,
}
