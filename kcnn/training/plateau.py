"""The schedule that divides the rate by 10 when the validation images are answered no better for some epochs.

It follows from the history of the epochs, which is saved with the weights: a resumed run has the rate that it had.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from kcnn.training.run import TrainingRun

DIVISOR = 10.0
PATIENCE_SHARE = 0.25  # epochs without improvement before a division, over those before the phase ends


@keras.saving.register_keras_serializable("kcnn")
class Plateau(keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule, multiplied by `factor`, a variable."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule):
        self.schedule = schedule
        self.factor = keras.Variable(1.0, trainable=False, aggregation="only_first_replica", name="plateau_factor")

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Return the rate of a step, a float32 scalar."""
        return self.schedule(step) * tf.cast(self.factor, tf.float32)

    def get_config(self) -> dict[str, object]:
        """Return what makes the same schedule, before any division."""
        return {"schedule": self.schedule}


def plateau_factor(scores: Sequence[tuple[float, ...]], patience: int) -> float:
    """Return by what the rate is multiplied after epochs with these scores; higher is better.

    After `patience` epochs without a better score than the best so far it is divided by 10, and the epochs are counted
    anew (Krizhevsky et al., NIPS 2012, section 5; He et al., CVPR 2016, section 3.4).
    """
    factor, waited = 1.0, 0
    best: tuple[float, ...] | None = None
    for score in scores:
        best, waited = (score, 0) if best is None or score > best else (best, waited + 1)
        if waited == patience:
            factor, waited = factor / DIVISOR, 0
    return factor


class FollowPlateau(keras.callbacks.Callback):
    """Set the factor of a `Plateau` by the epochs of the phase under way, those before a resume included."""

    def __init__(self, schedule: Plateau, run: TrainingRun):
        super().__init__()
        self._schedule, self._run = schedule, run

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._set_factor()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._set_factor()  # `EpochEnd`, which comes before, has recorded the epoch

    def _set_factor(self) -> None:
        progress = self._run.progress
        rows = [row for row in progress.history if row["phase"] == progress.phase]
        patience = max(1, round(PATIENCE_SHARE * self._run.config.patience))
        taught = self._run.answer is not None
        self._schedule.factor.assign(plateau_factor([_score(row, taught) for row in rows], patience))


def _score(row: Mapping[str, Any], taught: bool) -> tuple[float, ...]:
    """Return validation accuracy and loss, as early stopping judges; the training loss where these say nothing."""
    return (-row["loss"],) if taught or "val_loss" not in row else (row["val_accuracy"], -row["val_loss"])
