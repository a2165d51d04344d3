"""Training: the phases of a recipe, one after the other, from data shards to the best weights."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

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
from kcnn.nn.precision import dtype_policy
from kcnn.progress import bar
from kcnn.training.auxiliary import Loss, with_auxiliary, without_auxiliary
from kcnn.training.distillation import (
    Answer,
    TaughtModel,
    answered,
    distillation_loss,
    freeze_teacher,
    picture_crops,
)
from kcnn.training.distribution import check_batch_size, choose_strategy, without_sharding
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

_CACHE_BYTES = 2**26  # decoded validation images up to this size are cached
_VALIDATION_CROPS = 1024  # on which a student's answers are compared with its teacher's


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The examples that training reads.

    Attributes:
        train: shard files of the training split.
        val: shard files of the validation split.
        train_count: images in `train`.
        val_count: images in `val`; with 0, every epoch counts as an improvement.
        classes: number of classes; the objective's, where it has its own.
        mean_bytes: mean size of an encoded image, by which the shuffle buffer is bounded.
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


class _EpochEnd(keras.callbacks.Callback):
    """Keep the best weights and the state to resume from after each epoch, and end the phase when patience does."""

    STATE_SHARE = 0.1  # the part of the time for writing the state, which takes seconds for a large network

    def __init__(self, run: "_Run", step_bar: tqdm):
        super().__init__()
        self._run, self._bar = run, step_bar
        self._saved_at, self._save_seconds, self._began = -math.inf, 0.0, 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self._bar.update(1)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        run, progress = self._run, self._run.progress
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        if not math.isfinite(metrics["loss"]):
            raise DivergedError(f"the loss became {metrics['loss']} in epoch {epoch + 1}: try a lower --learning_rate")
        # Without validation images the latest epoch is the best.
        latest = (0.0, float(len(progress.history) + 1))
        score = (metrics["val_accuracy"], -metrics["val_loss"]) if "val_loss" in metrics else latest
        if progress.record_epoch(score, {"seconds": round(time.monotonic() - self._began, 2), **metrics}):
            save_weights(run.model, run.best)
        self.model.stop_training = progress.waited >= run.config.patience
        shown = {"loss": metrics["loss"], "acc": metrics["accuracy"], "val acc": metrics.get("val_accuracy")}
        texts = {name: f"{value:.3f}" for name, value in shown.items() if value is not None}
        self._bar.set_postfix(texts, refresh=False)
        self._save_state()
        run.after_epoch(progress)

    def _save_state(self) -> None:
        now = time.monotonic()
        if (now - self._saved_at) * self.STATE_SHARE >= self._save_seconds or self.model.stop_training:
            self._run.save(self.model.optimizer)
            self._saved_at = time.monotonic()
            self._save_seconds = self._saved_at - now


@dataclasses.dataclass
class _Run:
    """A training under way in a directory."""

    config: Config
    data: TrainingData
    model: keras.Model
    directory: Path
    progress: Progress
    after_epoch: Callable[[Progress], None]
    began: float  # by time.monotonic, as if one process had trained all the time
    answer: Answer | None  # the teacher's

    @property
    def best(self) -> Path:
        return self.directory / "best.safetensors"

    @property
    def state(self) -> Path:
        return self.directory / "state.safetensors"

    @functools.cached_property
    def validation(self) -> tf.data.Dataset | None:
        """The validation batches, made once for all phases; None without validation images."""
        if not self.data.val_count:
            return None
        if self.answer is not None:
            pictures = TrainingShards(self.data.val, self.data.val_count, self.data.mean_bytes)
            count = min(_VALIDATION_CROPS, self.config.crops)
            size = self.data.preprocessing.image_size[0]
            crops = picture_crops(self.config, pictures, size, count, range(1), augmented=False)
            return answered(crops, count, self.answer, self.config.batch_size)
        batches = self.in_order(self.data.val, self.data.val_count)
        decoded_bytes = 12 * self.data.val_count * math.prod(self.data.preprocessing.image_size)
        # Reading them anew takes half a second an epoch.
        return batches.cache() if decoded_bytes <= _CACHE_BYTES else batches

    def in_order(self, paths: list[str], count: int) -> tf.data.Dataset:
        """Return the batches of `count` images in `paths`, each image once."""
        batches = evaluation_batches(
            paths,
            num_classes=self.data.classes,
            batch_size=self.config.batch_size,
            preprocessing=self.data.preprocessing,
            objective=self.config.objective,
        )
        # Without a known length Keras warns of its end.
        return batches.apply(tf.data.experimental.assert_cardinality(math.ceil(count / self.config.batch_size)))

    @property
    def epoch_size(self) -> int:
        """The images of an epoch."""
        return self.data.train_count if self.answer is None else self.config.crops

    def save(self, optimizer: keras.optimizers.Optimizer | None = None) -> None:
        self.progress.seconds = round(time.monotonic() - self.began, 2)
        save_state(self.state, self.progress, self.model, optimizer)


def train(
    config: Config,
    data: TrainingData,
    build_model: Callable[[], keras.Model],
    directory: Path,
    *,
    build_teacher: Callable[[], keras.Model] | None = None,
    devices: list[str] | None = None,
    after_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Run the phases of `config`, or go on where an interrupted run of them in the same directory stopped.

    Where all phases are finished nothing is trained. The global dtype policy is the same afterwards.

    Args:
        config: phases, optimizer, batch size, dtype policy, seed, ...
        data: shards and counts.
        build_model: makes the model with its starting weights; called once, within the strategy's scope.
        directory: receives `best.safetensors` (the weights of the best validation epoch over all phases),
            `state.safetensors` (what an interrupted run goes on from) and `logs/` (TensorBoard).
        build_teacher: makes the teacher of the objective "distill", called like `build_model`.
        devices: logical devices to mirror over; None for all GPUs.
        after_epoch: called at the end of every epoch, and before an interrupted run goes on; what it raises ends the
            training.

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
    state = directory / "state.safetensors"
    resumed = state.exists()
    progress = load_progress(state) if resumed else Progress()
    began = time.monotonic() - progress.seconds
    if progress.history:
        print(f"Resuming after {len(progress.history)} epochs")
        after_epoch(progress)
    with strategy.scope(), dtype_policy(config.dtype):
        answer = freeze_teacher(build_teacher()) if build_teacher else None
        run = _Run(config, data, build_model(), directory, progress, after_epoch, began, answer)
        if resumed:
            load_state(state, run.model, None)
        else:
            run.best.unlink(missing_ok=True)
            run.save()  # so that a run can go on that is interrupted in its first epoch
        while progress.phase < len(config.phases):
            phase = config.phases[progress.phase]
            if not progress.phase_is_over(phase.epochs, config.patience):
                _run_phase(run, phase)
            load_weights(run.model, run.best)
            progress.start_next_phase()
            run.save()
    return progress


def _run_phase(run: _Run, phase: Phase) -> None:
    """Train a phase from the epoch that is next."""
    config, model, progress = run.config, run.model, run.progress
    set_trainable(model, unfreeze=phase.unfreeze, batch_norm=config.batch_norm)
    fitted, batches, validation = _phase_data(run, phase)
    loss: Loss
    metrics: list[Loss | keras.metrics.Metric]
    if run.answer is not None:
        fitted, loss = TaughtModel.of(fitted, run.answer), distillation_loss(config.temperature)
        metrics = [keras.metrics.CategoricalAccuracy("accuracy")]  # how often both give the same answer
    else:
        crossentropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
        fitted, loss, metrics = with_auxiliary(fitted, crossentropy, model_spec(config.model).auxiliary_weight)
    steps = steps_per_epoch(run.epoch_size, config.batch_size)
    shorten_batch_norm_memory(model, steps * phase.epochs)
    optimizer = build_optimizer(
        config.optimizer,
        fitted,
        schedule=warmup_cosine(phase.learning_rate, steps * phase.epochs, phase.warmup),
        weight_decay=config.weight_decay,
    )
    fitted.compile(optimizer=optimizer, loss=loss, metrics=metrics)
    if progress.epoch:
        load_state(run.state, model, fitted.optimizer)
    with bar(total=steps * phase.epochs, description=f"Training ({phase.name})", unit="step") as step_bar:
        step_bar.update(steps * progress.epoch)
        fitted.fit(
            without_sharding(batches),
            epochs=phase.epochs,
            initial_epoch=progress.epoch,
            steps_per_epoch=steps,
            validation_data=None if validation is None else without_sharding(validation),
            callbacks=[
                keras.callbacks.TensorBoard(run.directory / "logs" / phase.name, write_graph=False),
                _EpochEnd(run, step_bar),
            ],
            shuffle=False,  # the batches are shuffled already, by seed and epoch
            verbose=0,
        )


def _phase_data(run: _Run, phase: Phase) -> tuple[keras.Model, tf.data.Dataset, tf.data.Dataset | None]:
    """Return the model that a phase fits, its training batches and its validation batches.

    The model is the run's, on images, or its head, on features that are computed once.
    """
    config, data, model = run.config, run.data, run.model
    epochs = range(run.progress.epoch, phase.epochs)
    shards = TrainingShards(data.train, data.train_count, data.mean_bytes)
    if run.answer is not None:
        size = data.preprocessing.image_size[0]
        crops = picture_crops(config, shards, size, config.crops, epochs)
        return model, crops.map(lambda images: (images, tf.zeros([tf.shape(images)[0], data.classes]))), run.validation
    if phase.unfreeze == 0 and not phase.augmentations and phase.crop_scale is None:
        backbone, head = split_at_head(without_auxiliary(model))

        def features(batches: tf.data.Dataset, count: int, split: str) -> tuple[np.ndarray, np.ndarray]:
            return compute_features(backbone, batches, count, run.directory / f"features-{split}.npy")

        trained_on = features(run.in_order(data.train, data.train_count), data.train_count, "train")
        batches = feature_batches(*trained_on, batch_size=config.batch_size, seed=config.seed, epochs=epochs)
        if run.validation is None:
            return head, batches, None
        judged_on = features(run.validation, data.val_count, "val")
        return head, batches, tf.data.Dataset.from_tensor_slices(judged_on).batch(256)
    batches = training_batches(
        shards,
        num_classes=data.classes,
        batch_size=config.batch_size,
        preprocessing=data.preprocessing,
        augmentations=phase.augmentations,
        crop_scale=phase.crop_scale,
        seed=config.seed,
        epochs=epochs,
        objective=config.objective,
    )
    return model, batches, run.validation
