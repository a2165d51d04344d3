"""Classifier heads: features [N, H, W, C] → float32 logits [N, classes]. The last layer is always `head_logits`."""

import keras
from keras import KerasTensor

from kcnn.nn.blocks import Ops
from kcnn.nn.dropping import DropConnect


def pooled(x: KerasTensor, ops: Ops, num_classes: int) -> KerasTensor:
    """Build global average pooling (Lin et al., "Network In Network", ICLR 2014), dropout, one dense layer."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    if ops.dropout:
        x = keras.layers.Dropout(ops.dropout, name="head_dropout")(x)
    return logits(x, ops, num_classes)


def fully_connected(
    x: KerasTensor, ops: Ops, num_classes: int, *, units: tuple[int, ...] = (4096, 4096)
) -> KerasTensor:
    """Build hidden dense layers on flattened features, with dropout after each (Krizhevsky et al., NeurIPS 2012)."""
    x = keras.layers.Flatten(name="head_flatten")(x)
    for index, width in enumerate(units, start=1):
        x = keras.layers.Dense(width, kernel_initializer=ops.kernel_initializer, name=f"head_fc{index}")(x)
        x = ops.activate(x, name=f"head_fc{index}_act")
        if ops.dropout:
            x = keras.layers.Dropout(ops.dropout, name=f"head_fc{index}_dropout")(x)
    return logits(x, ops, num_classes)


def logits(x: KerasTensor, ops: Ops, num_classes: int, *, name: str = "head_logits") -> KerasTensor:
    """Build the classifier itself: float32 under every dtype policy, since the loss takes exponentials of it."""
    if ops.dropconnect:
        return DropConnect(num_classes, ops.dropconnect, dtype="float32", name=name)(x)
    return keras.layers.Dense(num_classes, dtype="float32", name=name)(x)
