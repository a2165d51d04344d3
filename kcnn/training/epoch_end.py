"""The ends of epochs and of steps: what is kept of them, whether an epoch is the last, whether the loss is a number."""

import math
import time

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kcnn.errors import UserError
from kcnn.training.run import TrainingRun
from kcnn.training.state import load_state
from kcnn.weights import save_weights

_LOOK_SECONDS = 1.0  # between two looks at the loss within an epoch


class DivergedError(UserError):
    """The loss is no longer a number."""


class EpochEnd(keras.callbacks.Callback):
    """Keep weights and the state to resume from, after epochs and within them, and end the phase when patience does.

    Of the first phase the best epoch's weights are kept, of later ones the last epoch's.

    Where there are averages of the weights, these are judged and kept; the training goes on from the weights.
    """

    STATE_SHARE = 0.1  # the part of the time for writing the state, which takes seconds for a large network
    STATE_SECONDS = 60.0  # within an epoch, the state is written no more often

    def __init__(self, run: TrainingRun, steps: int, epochs: int, step_bar: tqdm):
        super().__init__()
        self._run, self._steps, self._epochs, self._bar = run, steps, epochs, step_bar
        self._saved_at, self._save_seconds, self._began = -math.inf, 0.0, 0.0
        self._looked_at = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()
        if self._saved_at == -math.inf:
            self._saved_at = self._began
        if self._run.progress.step:  # Keras has reset the metrics, but part of the epoch has been
            load_state(self._run.state, {"metrics": self.model.metrics_variables})

    def on_train_batch_end(self, batch: int, logs: dict[str, tf.Tensor] | None = None) -> None:
        self._bar.update(1)
        if self._run.averages:
            self._run.averages.update()
        self._run.progress.step += 1
        now = time.monotonic()
        due = now - self._saved_at >= max(self.STATE_SECONDS, self._save_seconds / self.STATE_SHARE)
        due = due and self._run.progress.step < self._steps  # after its last step, the epoch ends, and is saved
        if not due and now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        loss = float((logs or {})["loss"])  # it waits for the step, which costs time on a GPU
        if not math.isfinite(loss):
            raise DivergedError(self._divergence(loss))
        # The last step may have ruined the weights, which its loss does not know.
        if due and all(np.isfinite(keras.ops.convert_to_numpy(variable)).all() for variable in self.model.weights):
            self._save_state()

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._swap_averages(True)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        run, progress = self._run, self._run.progress
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(metrics["loss"]):
            raise DivergedError(self._divergence(metrics["loss"]))
        # Without validation images the latest epoch is the best; so it is of a student, which a few held-out pictures
        # cannot judge.
        score = (0.0, float(len(progress.history) + 1))
        if "val_loss" in metrics and run.answer is None:
            score = metrics["val_accuracy"], -metrics["val_loss"]
        self._swap_averages(True)
        improved = progress.record_epoch(score, {"seconds": round(time.monotonic() - self._began, 2), **metrics})
        self.model.stop_training = progress.phase_is_over(self._epochs, run.config.patience)
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
        now = time.monotonic()
        if (now - self._saved_at) * self.STATE_SHARE >= self._save_seconds or self.model.stop_training:
            self._save_state()
        run.after_epoch(progress)

    def _swap_averages(self, averaged: bool) -> None:
        if self._run.averages:
            self._run.averages.swap(averaged)

    def _save_state(self) -> None:
        began = time.monotonic()
        self._run.save(self.model)
        self._saved_at = time.monotonic()
        self._save_seconds = self._saved_at - began

    def _divergence(self, loss: float) -> str:
        progress = self._run.progress
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        where = f"step {progress.step} of epoch {progress.epoch + 1}, at a learning rate of {rate:.2g}"
        return f"the loss became {loss} by {where}: try a lower --learning_rate"
