"""The learning-rate finder: the loss while the rate rises step by step, and the rate that it suggests.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017, section 3.3: the best rate is usually
within a factor of two of the largest that converges. The exponential rise is fastai's (Howard & Gugger, "fastai: A
Layered API for Deep Learning", Information 11(2), 2020).
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from kcnn.config import Config
from kcnn.data.input_pipeline.batches import steps_per_epoch
from kcnn.errors import UserError
from kcnn.models.spec import model_spec
from kcnn.nn.keras_settings import dtype_policy, needed_settings
from kcnn.progress import bar
from kcnn.terminal import print_lines
from kcnn.training.auxiliary import with_auxiliary, without_auxiliary
from kcnn.training.distribution import check_batch_size, choose_strategy, without_sharding
from kcnn.training.freezing import has_linear_head, is_frozen, set_trainable
from kcnn.training.optimizers import build_optimizer, stage_multipliers
from kcnn.training.phase_data import phase_data
from kcnn.training.run import TrainingData, TrainingRun
from kcnn.training.smoothing import smoothed_crossentropy
from kcnn.training.state import Progress
from kcnn.training.trainer import train
from kcnn.weights import load_weights

SPAN = 1e5  # the highest rate over the lowest
ABOVE = 1e2  # the highest rate over the recipe's
WIDTH = 0.35  # the standard deviation of the Gaussian that smooths the losses, in the rate's natural logarithm
RISEN = 1.1  # times the first loss: from there on a rate is too high, whatever the loss comes to later
EXPLODED = 4.0  # times the lowest mean of a few losses: there is nothing more to see
FEW = 5  # losses
SAFETY = 2.0  # the rate with the lowest loss over the suggested one


@dataclasses.dataclass(frozen=True)
class RateCurve:
    """Losses of steps at rising rates.

    Attributes:
        rates: of the steps, ascending.
        losses: of their batches, before each step.
    """

    rates: Sequence[float]
    losses: Sequence[float]

    @property
    def smoothed(self) -> np.ndarray:
        """The losses, float [steps], smoothed by those of lower and higher rates alike."""
        width = WIDTH / math.log(self.rates[1] / self.rates[0]) if len(self.rates) > 1 else 1.0
        return gaussian_filter1d(np.asarray(self.losses, np.float64), width, mode="nearest")

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest, before it first rises above where it began."""
        smoothed = self.smoothed
        risen = np.flatnonzero(smoothed > RISEN * smoothed[0])
        return self.rates[int(np.argmin(smoothed[: risen[0] if len(risen) else None]))]

    @property
    def suggested(self) -> float:
        """Half of `lowest`."""
        return self.lowest / SAFETY


def find_rate(
    config: Config, data: TrainingData, build_model: Callable[[], keras.Model], directory: Path, *, steps: int
) -> RateCurve:
    """Train the last phase of `config` for some steps while the rate rises exponentially, after the phases before it.

    Only training images are read. The rise ends early where the loss explodes.

    Args:
        config: how to train otherwise, adapted to the data.
        data: the training split is read.
        build_model: makes the model with its starting weights.
        directory: receives what the phases before the last leave.
        steps: at most.

    Raises:
        UserError: the last phase is a head that is solved, which has no rate; the loss is infinite from the beginning.
    """
    data = dataclasses.replace(data, val=[], val_count=0)
    if len(config.phases) > 1:
        train(dataclasses.replace(config, phases=config.phases[:-1]), data, build_model, directory)
    return _raise_rate(config, data, build_model, directory, steps)


@needed_settings()
def _raise_rate(
    config: Config, data: TrainingData, build_model: Callable[[], keras.Model], directory: Path, steps: int
) -> RateCurve:
    phase, strategy = config.phases[-1], choose_strategy()
    check_batch_size(config.batch_size, strategy)
    keras.utils.set_random_seed(config.seed)
    with strategy.scope(), dtype_policy(config.dtype):
        model = build_model()
        if is_frozen(phase) and has_linear_head(without_auxiliary(model)):
            raise UserError(
                "find_rate: a head on frozen features is solved, so it has no learning rate; see --transfer"
            )
        if len(config.phases) > 1:
            load_weights(model, directory / "best.safetensors")
        run = TrainingRun(config, data, model, directory, Progress(), lambda progress: None, 0.0, None)
        set_trainable(model, unfreeze=phase.unfreeze, batch_norm=config.batch_norm)
        enough = 1 + steps // steps_per_epoch(data.train_count, config.batch_size)
        fitted, batches, _ = phase_data(run, dataclasses.replace(phase, epochs=enough))
        crossentropy = smoothed_crossentropy(config.label_smoothing, config.smoothing_over, data.classes)
        fitted, loss, _ = with_auxiliary(fitted, crossentropy, model_spec(config.model).auxiliary_weight)
        highest = ABOVE * phase.learning_rate
        lowest = highest / SPAN
        schedule = keras.optimizers.schedules.ExponentialDecay(lowest, steps - 1, SPAN)
        optimizer = build_optimizer(
            config.optimizer,
            fitted,
            schedule=schedule,
            weight_decay=config.weight_decay,
            multipliers=stage_multipliers(model, phase.rate_decay),
        )
        fitted.compile(optimizer=optimizer, loss=loss)
        recorder = _Recorder()
        print_lines(
            f"Raising the rate of {config.optimizer} from {highest / SPAN:.1e} to {highest:.1e} in {steps} steps"
        )
        with bar(total=steps, description="Rising", unit="step") as step_bar:
            drawn = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: step_bar.update(1))
            fitted.fit(
                without_sharding(batches()),
                epochs=1,
                steps_per_epoch=steps,
                callbacks=[recorder, drawn],
                shuffle=False,
                verbose=0,
            )
    if not recorder.losses:
        raise UserError("find_rate: the loss is no number from the first step on")
    rates = [lowest * SPAN ** (step / (steps - 1)) for step in range(len(recorder.losses))]
    return RateCurve(rates, recorder.losses)


class _Recorder(keras.callbacks.Callback):
    """The loss of each step's batch, until it explodes."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[float] = []
        self._lowest = math.inf

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.model.reset_metrics()  # which average over the epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        loss = float((logs or {})["loss"])
        if not math.isfinite(loss):
            self.model.stop_training = True
            return
        self.losses.append(loss)
        mean = statistics.mean(self.losses[-FEW:])
        self._lowest = min(self._lowest, mean)
        self.model.stop_training = mean > EXPLODED * self._lowest


def plot_rates(path: Path, curve: RateCurve) -> None:
    """Draw the losses against the rates as a PNG, with the rate that is suggested."""
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    smoothed = curve.smoothed
    axes.plot(curve.rates, curve.losses, color="0.75", linewidth=0.8, label="loss of a step")
    axes.plot(curve.rates, smoothed, color="C0", linewidth=2, label="smoothed")
    axes.axvline(curve.lowest, color="0.4", linestyle=":", label=f"lowest: {curve.lowest:.2g}")
    axes.axvline(curve.suggested, color="C1", label=f"suggested: {curve.suggested:.2g}")
    low, high = smoothed.min(), RISEN * smoothed[0]
    axes.set_ylim(low - 0.2 * (high - low), high + 0.2 * (high - low))  # not the explosion at the end
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("training loss")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower left")
    figure.savefig(path)
