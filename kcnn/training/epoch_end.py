"""The end of an epoch: what is kept of it, and whether it is the last."""

import math
import time

import keras
from tqdm import tqdm

from kcnn.errors import UserError
from kcnn.training.run import TrainingRun
from kcnn.weights import save_weights


class DivergedError(UserError):
    """The loss is no longer a number."""


class EpochEnd(keras.callbacks.Callback):
    """Keep weights and the state to resume from after each epoch, and end the phase when patience does.

    Of the first phase the best epoch's weights are kept, of later ones the last epoch's.

    Where there are averages of the weights, these are judged and kept; the training goes on from the weights.
    """

    STATE_SHARE = 0.1  # the part of the time for writing the state, which takes seconds for a large network

    def __init__(self, run: TrainingRun, step_bar: tqdm):
        super().__init__()
        self._run, self._bar = run, step_bar
        self._saved_at, self._save_seconds, self._began = -math.inf, 0.0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update(1)
        if self._run.averages:
            self._run.averages.update()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._swap_averages(True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        run, progress = self._run, self._run.progress
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(metrics["loss"]):
            raise DivergedError(f"the loss became {metrics['loss']} in epoch {epoch + 1}: try a lower --learning_rate")
        # Without validation images the latest epoch is the best; so it is of a student, which a few held-out pictures
        # cannot judge.
        score = (0.0, float(len(progress.history) + 1))
        if "val_loss" in metrics and run.answer is None:
            score = metrics["val_accuracy"], -metrics["val_loss"]
        self._swap_averages(True)
        improved = progress.record_epoch(score, {"seconds": round(time.monotonic() - self._began, 2), **metrics})
        self.model.stop_training = progress.phase_is_over(self.params["epochs"], run.config.patience)
        if improved and not progress.phases:
            save_weights(run.model, run.best)
        if self.model.stop_training and progress.phases:
            save_weights(run.model, run.last)
        if run.config.swa:
            save_weights(run.model, run.of_epoch(progress.epoch))
        self._swap_averages(False)
        shown = {"loss": metrics["loss"], "acc": metrics["accuracy"], "val acc": metrics.get("val_accuracy")}
        texts = {name: f"{value:.3f}" for name, value in shown.items() if value is not None}
        self._bar.set_postfix(texts, refresh=False)
        self._save_state()
        run.after_epoch(progress)

    def _swap_averages(self, averaged: bool) -> None:
        if self._run.averages:
            self._run.averages.swap(averaged)

    def _save_state(self) -> None:
        now = time.monotonic()
        if (now - self._saved_at) * self.STATE_SHARE >= self._save_seconds or self.model.stop_training:
            self._run.save(self.model.optimizer)
            self._saved_at = time.monotonic()
            self._save_seconds = self._saved_at - now
