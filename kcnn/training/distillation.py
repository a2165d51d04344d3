"""Distillation: a network learns a teacher's answers (Hinton et al., "Distilling the Knowledge in a Neural Network").

The teacher sees the very crops that the student sees, each at its own normalisation of pixels: "Knowledge Distillation:
A Good Teacher Is Patient and Consistent" (Beyer et al., CVPR 2022).
"""

from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.config import Config
from kcnn.data.input_pipeline.batches import TrainingShards
from kcnn.data.input_pipeline.crops import Crops, crop_batches
from kcnn.errors import UserError
from kcnn.models.factory import create_model
from kcnn.nn.keras_settings import dtype_policy
from kcnn.progress import bar
from kcnn.weights import load_weights

Answer = Callable[[tf.Tensor], tf.Tensor]


def load_teacher(config: Config, classes: int, size: int | None = None) -> keras.Model:
    """Build the teacher of `config` with its weights.

    Args:
        config: names the teacher, its weights, and the dtype that it computes in.
        classes: its outputs.
        size: height and width in pixels; None for its own.

    Returns:
        images [N, H, W, 3] → float32 logits [N, classes].

    Raises:
        UserError: there is no such model, its weights cannot be had, they are of another size, or their classifier is
            not one of `classes` classes.
    """
    with dtype_policy(config.dtype):
        teacher = create_model(str(config.teacher), classes, size)
    report = load_weights(teacher, config.teacher_weights, offline=config.offline)
    if report.kept:
        raise UserError(
            f"--teacher_weights {config.teacher_weights}: expected weights of {teacher.name} with a classifier of "
            f"{classes} classes, and this file has another or none"
        )
    return teacher


def distillation_loss(temperature: float) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the loss of Hinton et al. 2015, section 2: the divergence of the softened answers, times T².

    The divergence is Kullback and Leibler's, Σ p log(p / q), which is 0 where the student answers as the teacher does;
    its gradient is that of their cross-entropy. T² keeps the gradients' size whatever the temperature.

    Args:
        temperature: T, by which both logits are divided.

    Returns:
        (teacher's logits [N, C], student's logits [N, C]) → float [N].
    """

    def divergence(teacher: tf.Tensor, student: tf.Tensor) -> tf.Tensor:
        wanted = tf.nn.log_softmax(teacher / temperature)
        given = tf.nn.log_softmax(student / temperature)
        return temperature**2 * tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=-1)

    return divergence


def picture_crops(
    config: Config, shards: TrainingShards, size: int, count: int, epochs: range, *, augmented: bool = True
) -> tf.data.Dataset:
    """Return the batches of crops that `config` asks for.

    Args:
        config: its last phase has the crops' scale and augmentations.
        shards: the pictures.
        size: height and width of the crops.
        count: crops of an epoch.
        epochs: which epochs; see `crop_batches`.
        augmented: whether to apply the augmentations.

    Returns:
        images float32 [B, size, size, 3] in 0-255; where an epoch has fewer, B is its `count`.
    """
    phase = config.phases[-1]
    crops = Crops(size, count, phase.crop_scale or (1.0, 1.0), phase.augmentations if augmented else ())
    return crop_batches(shards, crops, batch_size=min(config.batch_size, count), seed=config.seed, epochs=epochs)


class TaughtModel(keras.Model):
    """A student, which shares its layers with the model that it is made of, and learns what its teacher answers."""

    @classmethod
    def of(cls, student: keras.Model, answer: Answer, *, inherited: bool = False) -> "TaughtModel":
        """Return `student` as a model that learns what `answer` gives.

        Args:
            student: images [N, H, W, 3] → logits [N, C].
            answer: the teacher's, of the same shapes.
            inherited: whether the student begins with the teacher's function, which holds for the statistics of batch
                norm that came with it. Then it trains in inference mode: it keeps them, and trains scales and shifts.
                The statistics of a batch are those of eight pictures, which undo what was inherited.
        """
        model = cls(student.input, student.outputs[0])
        # Keras would count a teacher's weights among the model's own.
        model.answer = answer
        model.inherited = inherited
        return model

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        return super().call(inputs, training=bool(training) and not self.inherited, mask=mask)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Update the weights by a batch of images, whose labels are not read; return the metrics."""
        images, _ = data
        return super().train_step((images, self.answer(images)))


def freeze_teacher(teacher: keras.Model) -> Answer:
    """Return a function that answers as `teacher` does: its weights are no model's, and no gradient goes to them."""

    def answer(images: tf.Tensor) -> tf.Tensor:
        return tf.stop_gradient(teacher(images, training=False))

    return answer


def answered(batches: Iterable[tf.Tensor], count: int, answer: Answer, batch_size: int) -> tf.data.Dataset:
    """Return batches of images with the teacher's answers, which are computed once and held in memory.

    Args:
        batches: images float32 [B, h, w, 3] in 0-255; they are kept as whole numbers.
        count: images in `batches`.
        answer: images → logits.
        batch_size: of what is returned.

    Returns:
        images float32 [B, h, w, 3] and logits float32 [B, C].
    """
    forward = tf.function(answer, reduce_retracing=True)
    images, logits = [], []
    with bar(total=count, description="The teacher's answers", unit="img") as progress:
        for batch in batches:
            whole = tf.cast(tf.round(batch), tf.uint8)
            images.append(whole.numpy())
            logits.append(forward(tf.cast(whole, tf.float32)).numpy())
            progress.update(len(whole))
    dataset = tf.data.Dataset.from_tensor_slices((np.concatenate(images), np.concatenate(logits))).batch(batch_size)
    return dataset.map(lambda pixels, labels: (tf.cast(pixels, tf.float32), labels))
