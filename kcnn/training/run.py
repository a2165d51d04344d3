"""A training under way: its data, its network, what it has reached, and the files that it keeps."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import tensorflow as tf

from kcnn.config import Config
from kcnn.data.input_pipeline.batches import TrainingShards, evaluation_batches
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.training.distillation import Answer, answered, picture_crops
from kcnn.training.state import Progress, save_state
from kcnn.training.weight_averaging import MovingAverages

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

    @property
    def training_shards(self) -> TrainingShards:
        return TrainingShards(self.train, self.train_count, self.mean_bytes)


@dataclasses.dataclass
class TrainingRun:
    """A training under way in a directory."""

    config: Config
    data: TrainingData
    model: keras.Model
    directory: Path
    progress: Progress
    after_epoch: Callable[[Progress], None]
    began: float  # by time.monotonic, as if one process had trained all the time
    answer: Answer | None  # the teacher's
    averages: MovingAverages | None = None  # of the weights, in the phase under way

    @property
    def best(self) -> Path:
        """The weights of the first phase's best epoch; in the end, those that are kept of all phases."""
        return self.directory / "best.safetensors"

    @property
    def last(self) -> Path:
        """The weights of the last epoch of a phase after the first."""
        return self.directory / "last.safetensors"

    @property
    def before(self) -> Path:
        """The weights that the phases before the one under way have left."""
        return self.directory / "before.safetensors"

    def of_epoch(self, epoch: int) -> Path:
        """Return where the weights of an epoch stay until those of the `swa`-th one after it are."""
        return self.directory / f"swa-{epoch % self.config.swa}.safetensors"

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

    def training_images(self) -> tf.data.Dataset:
        """Return batches of the training images alone, each image once, as they are in evaluation."""
        return self.in_order(self.data.train, self.data.train_count).map(lambda images, _: images)

    @property
    def epoch_size(self) -> int:
        """The images of an epoch."""
        return self.data.train_count if self.answer is None else self.config.crops

    def variables(self, fitted: keras.Model | None = None) -> dict[str, Sequence[keras.Variable]]:
        """Return what the state holds, by kind: the network, and within a phase all that belongs to what is fitted."""
        groups: dict[str, Sequence[keras.Variable]] = {"model": self.model.variables}
        if fitted is not None:
            groups |= {"optimizer": fitted.optimizer.variables, "metrics": fitted.metrics_variables}
            groups["averages"] = self.averages.variables if self.averages else ()
        return groups

    def save(self, fitted: keras.Model | None = None) -> None:
        """Save the state; within a phase, that of the model that is fitted too."""
        self.progress.seconds = round(time.monotonic() - self.began, 2)
        save_state(self.state, self.progress, self.variables(fitted))
