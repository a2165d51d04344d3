"""Training: the phases of a recipe, one after the other, from data shards to the best weights."""

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kcnn.config import Config, Phase
from kcnn.data.input_pipeline.batches import (
    TrainingShards,
    evaluation_batches,
    steps_per_epoch,
    training_batches,
)
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.models.spec import model_spec
from kcnn.progress import bar
from kcnn.training.auxiliary import main_output, with_auxiliary
from kcnn.training.distribution import check_batch_size, choose_strategy
from kcnn.training.freezing import (
    compute_features,
    feature_batches,
    set_trainable,
    shorten_batch_norm_memory,
    split_at_head,
)
from kcnn.training.optimizers import build_optimizer, warmup_cosine
from kcnn.training.state import Progress, load_progress, load_state, save_state
from kcnn.weights import load_weights, save_weights

_CACHE_BYTES = 2**26  # of validation images, decoded


@dataclasses.dataclass(frozen=True)
class Data:
    """What training reads.

    Attributes:
        train: shard files of the training split.
        val: shard files of the validation split.
        train_count: images in `train`.
        val_count: images in `val`; with 0, every epoch counts as an improvement.
        classes: number of classes, of the objective where it has its own.
        mean_bytes: of an encoded image, by which the shuffle buffer is bounded.
        preprocessing: the deterministic transform of evaluation and serving.
    """

    train: list[str]
    val: list[str]
    train_count: int
    val_count: int
    classes: int
    mean_bytes: int
    preprocessing: Preprocessing


class DivergedError(UserError):
    """The loss is no longer a number."""


class _Keeper(keras.callbacks.Callback):
    """After each epoch: keeps the best weights and the state to resume from, and ends the phase when patience does."""

    STATE_SHARE = 0.1  # of the time may go into keeping the state: a large network's takes seconds to write

    def __init__(
        self,
        whole: keras.Model,
        directory: Path,
        progress: Progress,
        patience: int,
        step_bar,
        after_epoch: Callable[[Progress], None],
    ):
        super().__init__()
        self._after_epoch = after_epoch
        self._whole, self._directory, self._progress = whole, directory, progress
        self._patience, self._bar = patience, step_bar
        self._saved_at, self._save_seconds, self._began = -math.inf, 0.0, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self._bar.update(1)

    def on_epoch_end(self, epoch, logs=None):
        progress, metrics = self._progress, {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(metrics["loss"]):
            raise DivergedError(f"the loss became {metrics['loss']} in epoch {epoch + 1}: try a lower --learning_rate")
        progress.epoch += 1
        seconds = round(time.monotonic() - self._began, 2)
        progress.history.append({"phase": progress.phase, "epoch": progress.epoch, "seconds": seconds, **metrics})
        # Without validation images the latest epoch is the best.
        latest = (0.0, float(len(progress.history)))
        score = (metrics["val_accuracy"], -metrics["val_loss"]) if "val_loss" in metrics else latest
        if progress.best is None or score > progress.best:
            progress.best = score
            save_weights(self._whole, self._directory / "best.safetensors")
        if progress.best_in_phase is None or score > progress.best_in_phase:
            progress.best_in_phase, progress.waited = score, 0
        else:
            progress.waited += 1
            self.model.stop_training = progress.waited >= self._patience
        shown = {"loss": metrics["loss"], "acc": metrics["accuracy"], "val acc": metrics.get("val_accuracy")}
        texts = {name: f"{value:.3f}" for name, value in shown.items() if value is not None}
        self._bar.set_postfix(texts, refresh=False)
        self._save_state()
        self._after_epoch(progress)

    def _save_state(self):
        now = time.monotonic()
        if (now - self._saved_at) * self.STATE_SHARE >= self._save_seconds or self.model.stop_training:
            save_state(self._directory / "state.safetensors", self._progress, self._whole, self.model.optimizer)
            self._saved_at = time.monotonic()
            self._save_seconds = self._saved_at - now


def train(
    config: Config,
    data: Data,
    build_model: Callable[[], keras.Model],
    directory: Path,
    *,
    devices: list[str] | None = None,
    after_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Runs the phases of `config`; goes on where an interrupted run of them in the same directory stopped.

    Args:
        config: phases, optimizer, batch size, seed, ...
        data: shards and counts.
        build_model: makes the model with its starting weights; called within the strategy's scope.
        directory: receives `best.safetensors` (the weights of the best validation epoch over all phases),
            `state.safetensors` (what an interrupted run goes on from) and `logs/` (TensorBoard).
        devices: logical devices to mirror over; None for all GPUs.
        after_epoch: called at the end of every epoch; what it raises ends the training.

    Returns:
        the final Progress, with the history of every epoch.

    Raises:
        UserError: a batch size that does not divide over the devices, too many stages to unfreeze.
        DivergedError: the loss became infinite or no number.
        KeyboardInterrupt: passed on; the state is that of an epoch's end, of the last unless saving takes long.
    """
    directory.mkdir(parents=True, exist_ok=True)
    strategy = choose_strategy(devices)
    check_batch_size(config.batch_size, strategy)
    keras.utils.set_random_seed(config.seed)
    state, best = directory / "state.safetensors", directory / "best.safetensors"
    resume = state.exists()
    progress = load_progress(state) if resume else Progress()
    if progress.history:
        print(f"Resuming after {len(progress.history)} epochs")
    with strategy.scope():
        model = build_model()
        if resume:
            load_state(state, model, None)
        else:
            best.unlink(missing_ok=True)
            save_state(state, progress, model, None)  # an interruption in the first epoch leaves something too
        while progress.phase < len(config.phases):
            _run_phase(config, data, model, directory, progress, after_epoch)
            load_weights(model, best)
            progress.next_phase()
            save_state(state, progress, model, None)
    return progress


def _run_phase(
    config: Config,
    data: Data,
    model: keras.Model,
    directory: Path,
    progress: Progress,
    after_epoch: Callable[[Progress], None],
) -> None:
    phase = config.phases[progress.phase]
    set_trainable(model, unfreeze=phase.unfreeze, batch_norm=config.batch_norm)
    fitted, batches, validation = _phase_data(config, phase, data, model, directory, progress.epoch)
    crossentropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
    fitted, loss, metrics = with_auxiliary(fitted, crossentropy, model_spec(config.model).auxiliary_weight)
    steps = steps_per_epoch(data.train_count, config.batch_size)
    shorten_batch_norm_memory(model, steps * phase.epochs)
    optimizer = build_optimizer(
        config.optimizer,
        fitted,
        schedule=warmup_cosine(phase.learning_rate, steps * phase.epochs, phase.warmup),
        weight_decay=config.weight_decay,
    )
    fitted.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    if progress.epoch:
        load_state(directory / "state.safetensors", model, fitted.optimizer)
    with bar(total=steps * phase.epochs, description=f"Training ({phase.name})", unit="step") as step_bar:
        step_bar.update(steps * progress.epoch)
        fitted.fit(
            batches,
            epochs=phase.epochs,
            initial_epoch=progress.epoch,
            steps_per_epoch=steps,
            validation_data=validation,
            callbacks=[
                keras.callbacks.TensorBoard(directory / "logs" / phase.name, write_graph=False),
                _Keeper(model, directory, progress, config.patience, step_bar, after_epoch),
            ],
            shuffle=False,  # the batches are, by seed and epoch
            verbose=0,
        )


def _phase_data(
    config: Config, phase: Phase, data: Data, model: keras.Model, directory: Path, first_epoch: int
) -> tuple[keras.Model, tf.data.Dataset, tf.data.Dataset | None]:
    """What a phase fits, and on which batches: the model on images, or its head on features computed once."""
    epochs = range(first_epoch, phase.epochs)

    def in_order(paths: list[str], count: int) -> tf.data.Dataset:
        batches = evaluation_batches(
            paths,
            num_classes=data.classes,
            batch_size=config.batch_size,
            preprocessing=data.preprocessing,
            objective=config.objective,
        )
        # Of a known length, or Keras warns of its end.
        return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(count / config.batch_size)))

    validation = in_order(data.val, data.val_count) if data.val_count else None
    pixels = data.val_count * math.prod(data.preprocessing.image_size)
    if validation is not None and 12 * pixels <= _CACHE_BYTES:
        validation = validation.cache()  # to begin anew takes half a second an epoch
    if phase.unfreeze == 0 and not phase.augmentations and phase.crop_scale is None:
        backbone, head = split_at_head(main_output(model))

        def features(paths: list[str], count: int, name: str) -> tuple[np.ndarray, np.ndarray]:
            return compute_features(backbone, in_order(paths, count), count, directory / f"features-{name}.npy")

        trained_on = features(data.train, data.train_count, "train")
        batches = feature_batches(*trained_on, batch_size=config.batch_size, seed=config.seed, epochs=epochs)
        if validation is not None:
            validation = tf.data.Dataset.from_tensor_slices(features(data.val, data.val_count, "val")).batch(256)
        return head, batches, validation
    batches = training_batches(
        TrainingShards(data.train, data.train_count, data.mean_bytes),
        num_classes=data.classes,
        batch_size=config.batch_size,
        preprocessing=data.preprocessing,
        augmentations=phase.augmentations,
        crop_scale=phase.crop_scale,
        seed=config.seed,
        epochs=epochs,
        objective=config.objective,
    )
    return model, batches, validation
