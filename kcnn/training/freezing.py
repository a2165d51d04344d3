"""The layers that train in a phase, and training on the features of frozen ones."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from kcnn.config import Phase
from kcnn.errors import UserError
from kcnn.models.spec import stages
from kcnn.progress import bar

LabelledFeatures = tuple[np.ndarray, np.ndarray]  # the features and the one-hot labels


def set_trainable(model: keras.Model, *, unfreeze: int | None, batch_norm: str) -> None:
    """Set `trainable` on every layer of a model.

    Args:
        model: a model of `create_model`: its layers' names begin with their stage.
        unfreeze: how many of the backbone's last stages train beside the head; None for all.
        batch_norm: "train" lets the batch norm of training stages train; otherwise it stays in inference mode.

    Raises:
        UserError: `unfreeze` is more stages than the model has.
    """
    backbone = [stage for stage in stages(model) if stage not in ("preprocess", "head")]
    if unfreeze is not None and unfreeze > len(backbone):
        raise UserError(f"--unfreeze {unfreeze}: the model has {len(backbone)} stages ({', '.join(backbone)})")
    training = {"head", *(backbone if unfreeze is None else backbone[len(backbone) - unfreeze :])}
    for layer in model.layers:
        stage = layer.name.split("_")[0]
        frozen = batch_norm != "train" and isinstance(layer, keras.layers.BatchNormalization) and stage != "head"
        layer.trainable = stage in training and not frozen


def split_at_head(model: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Split a classifier after the head's pooling; both parts share the model's weights.

    The cut is before the first layer of the head that has weights or draws random numbers.

    Args:
        model: images [N, H, W, 3] → logits [N, classes], one output.

    Returns:
        images → features, and features → logits.
    """
    head = [layer for layer in model.layers if layer.name.startswith("head_")]
    first = next(layer for layer in head if layer.weights or isinstance(layer, keras.layers.Dropout))
    return keras.Model(model.input, first.input), keras.Model(first.input, model.output)


def is_frozen(phase: Phase) -> bool:
    """Return whether a phase trains the head alone, on views of the images that are the same in every epoch."""
    return phase.unfreeze == 0 and (phase.views > 1 or not (phase.augmentations or phase.crop_scale))


def has_linear_head(model: keras.Model) -> bool:
    """Return whether `head_logits` is the head's only layer with weights, on features [N, D]."""
    head = [layer for layer in model.layers if layer.name.startswith("head_") and layer.weights]
    return [layer.name for layer in head] == ["head_logits"] and len(head[0].input.shape) == 2


def compute_features(
    backbone: ConcreteFunction, views: Iterable[tuple[tf.Tensor, tf.Tensor]], count: int, path: Path, number: int = 1
) -> LabelledFeatures:
    """Run the frozen backbone once over `count` images in each of their views.

    Args:
        backbone: images → features.
        views: batches of (images, one-hot labels): all images in one view after the other, always in the same order.
        count: images in a view.
        path: a .npy file to keep the features in, so that memory does not grow with the data. It is written without
            mapping: on a full disk, writing to a mapped file would end the process without a message.
        number: of views.

    Returns:
        features float32 [number * count, ...], all images in the first view first, mapped from `path`, and labels
        float32 [count, classes].
    """
    shape = (number * count, *backbone.output_shapes[1:])
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
    labels, done = [], 0
    with bar(total=shape[0], description="Frozen features", unit="img") as progress, path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for images, targets in views:
            file.write(backbone(images).numpy().astype(np.float32, copy=False).data)
            if done < count:
                labels.append(targets.numpy())
            done += len(images)
            progress.update(len(images))
    return np.load(path, mmap_mode="r"), np.concatenate(labels)[:count]


def feature_batches(
    features: np.ndarray, labels: np.ndarray, *, batch_size: int, seed: int, epochs: range
) -> tf.data.Dataset:
    """Return the shuffled batches of the given epochs.

    The last, incomplete batch of an epoch is dropped unless it is the only one. The order depends on (seed, epoch)
    alone, so that a resumed run sees the batches of an uninterrupted one.

    Args:
        features: float32 [count, ...].
        labels: float32 [count, classes], one-hot.
        batch_size: images in a batch.
        seed: of the order.
        epochs: the epochs to go through, from 0.

    Returns:
        (features, labels), `max(1, count // batch_size)` batches for each epoch.
    """
    steps = max(1, len(labels) // batch_size)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch in epochs:
            order = np.random.default_rng((seed, epoch)).permutation(len(labels))
            for step in range(steps):
                chosen = np.sort(order[step * batch_size : (step + 1) * batch_size])
                yield features[chosen], labels[chosen]

    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), tf.float32) for array in (features, labels))
    return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(8)
