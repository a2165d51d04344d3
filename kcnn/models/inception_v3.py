"""Inception v3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016).

The network of the authors' release (tensorflow/models, slim/nets/inception_v3) and keras.applications, which is the
paper's table 1 with the modules of figures 5 to 7, and section 4's auxiliary classifier (`aux_heads`). Batch norm has
no scale, as there. Blocks are called by the release's names of the concatenations, mixed0 to mixed10.

`inceptionv3.torch` is torchvision's: with that scale, and with average pooling that counts the padding.
"""

from typing import Any

import keras
from keras import KerasTensor

from kcnn.models.inception_v1 import chain, concat
from kcnn.models.inception_v2 import average_pool
from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act
from kcnn.nn.heads import logits


def _pool_branch(x: KerasTensor, ops: Ops, name: str, filters: int) -> KerasTensor:
    return chain(average_pool(x, ops, name=f"{name}_pool"), ops, f"{name}_pool", (filters, 1))


def fan(x: KerasTensor, ops: Ops, name: str, filters: int) -> KerasTensor:
    """Build 1x3 and 3x1 convolutions side by side."""
    sides = [chain(x, ops, f"{name}_{kernel[0]}x{kernel[1]}", (filters, kernel)) for kernel in ((1, 3), (3, 1))]
    return concat(name, *sides)


def _figure5(x: KerasTensor, ops: Ops, name: str, pool_filters: int) -> KerasTensor:
    """Build figure 5: 5x5 convolutions as two of 3x3 (the release keeps one 5x5 in the second branch)."""
    return concat(
        name,
        chain(x, ops, f"{name}_1x1", (64, 1)),
        chain(x, ops, f"{name}_5x5", (48, 1), (64, 5)),
        chain(x, ops, f"{name}_3x3dbl", (64, 1), (96, 3), (96, 3)),
        _pool_branch(x, ops, name, pool_filters),
    )


def _reduction_a(x: KerasTensor, ops: Ops, name: str) -> KerasTensor:
    """Build figure 10: to the grid of 17x17."""
    return concat(
        name,
        chain(x, ops, f"{name}_3x3", (384, 3, 2, "valid")),
        chain(x, ops, f"{name}_3x3dbl", (64, 1), (96, 3), (96, 3, 2, "valid")),
        keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x),
    )


def _figure6(x: KerasTensor, ops: Ops, name: str, filters: int) -> KerasTensor:
    """Build figure 6: 7x7 convolutions as 1x7 and 7x1."""
    wide, high = (1, 7), (7, 1)
    return concat(
        name,
        chain(x, ops, f"{name}_1x1", (192, 1)),
        chain(x, ops, f"{name}_7x7", (filters, 1), (filters, wide), (192, high)),
        chain(x, ops, f"{name}_7x7dbl", (filters, 1), (filters, high), (filters, wide), (filters, high), (192, wide)),
        _pool_branch(x, ops, name, 192),
    )


def _reduction_b(x: KerasTensor, ops: Ops, name: str) -> KerasTensor:
    """Build the reduction to the grid of 8x8."""
    return concat(
        name,
        chain(x, ops, f"{name}_3x3", (192, 1), (320, 3, 2, "valid")),
        chain(x, ops, f"{name}_7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, "valid")),
        keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x),
    )


def _figure7(x: KerasTensor, ops: Ops, name: str) -> KerasTensor:
    """Build figure 7: branches that widen."""
    return concat(
        name,
        chain(x, ops, f"{name}_1x1", (320, 1)),
        fan(chain(x, ops, f"{name}_3x3", (384, 1)), ops, f"{name}_3x3", 384),
        fan(chain(x, ops, f"{name}_3x3dbl", (448, 1), (384, 3)), ops, f"{name}_3x3dbl", 384),
        _pool_branch(x, ops, name, 192),
    )


def stem(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build the stem: to the grid of 35x35 at an input of 299."""
    x = chain(x, ops, "stem", (32, 3, 2, "valid"), (32, 3, 1, "valid"), (64, 3))
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool1")(x)
    x = conv_norm_act(x, ops, 80, 1, name="stem_conv4")
    x = conv_norm_act(x, ops, 192, 3, padding="valid", name="stem_conv5")
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool2")(x)


def features(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build the stem; grids of 35x35 (stage1), 17x17 (stage2) and 8x8 (stage3) at an input of 299."""
    x = stem(x, ops)
    for index, pool_filters in enumerate((32, 64, 64)):
        x = _figure5(x, ops, f"stage1_mixed{index}", pool_filters)
    x = _reduction_a(x, ops, "stage2_mixed3")
    for index, filters in enumerate((128, 160, 160, 192), start=4):
        x = _figure6(x, ops, f"stage2_mixed{index}", filters)
    x = _reduction_b(x, ops, "stage3_mixed8")
    for index in (9, 10):
        x = _figure7(x, ops, f"stage3_mixed{index}")
    return x


def _auxiliary(x: KerasTensor, ops: Ops, num_classes: int, *, name: str) -> KerasTensor:
    """Build figure 8, with batch norm; the release's 5x5 windows, smaller where the features are."""
    window = [min(5, side) for side in x.shape[1:3]]
    x = keras.layers.AveragePooling2D(window, 3, name=f"{name}_pool")(x)
    x = conv_norm_act(x, ops, 128, 1, name=f"{name}_conv1")
    height, width = (min(5, side) for side in x.shape[1:3])
    x = conv_norm_act(x, ops, 768, (height, width), padding="valid", name=f"{name}_conv2")
    x = keras.layers.GlobalAveragePooling2D(name=f"{name}_average")(x)
    return logits(x, ops, num_classes, name=f"{name}_logits")


def _row(name: str, norm_scale: bool, padding: str, params: int, top1: float, top5: float, **twins: Any) -> ModelSpec:
    return ModelSpec(
        name,
        family="inceptionv3",
        features=features,
        paper="Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv:1512.00567",
        year=2015,
        input_size=299,
        min_size=75,
        params=params,
        macs=5_713_216_096,
        preprocessing="tf",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_scale": norm_scale,
            "padding": padding,
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.2,  # the release's keep probability of 0.8
            "dropconnect": 0.0,
            "aux_heads": False,
        },
        top1=top1,
        top5=top5,
        auxiliary={"stage2_mixed7_concat": _auxiliary},
        auxiliary_weight=0.4,  # the release's
        note="The paper has 5 billion multiply-adds; torchvision's 27.2 M parameters include the auxiliary head.",
        **twins,
    )


_TWIN = Application(
    "InceptionV3",
    "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
    file_hash="9a0d58056eeedaa3f26cb7ebd46da564",
)
_TORCH = {"torchvision": "inception_v3", "timm": "inception_v3"}

# scale of batch norm, padding, parameters, top-1, top-5, twins
register(
    _row("inceptionv3", False, "same", 23_817_352, 77.9, 93.7, application=_TWIN),
    _row("inceptionv3.torch", True, "symmetric", 23_834_568, 77.294, 93.450, torch=_TORCH),
)
