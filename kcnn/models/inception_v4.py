"""Inception v4 (Szegedy et al., AAAI 2017).

"Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning".

Figures 3 to 9, in the network of the authors' release (tensorflow/models, slim/nets/inception_v4): batch norm has no
scale. Blocks are called by the release's names. `inceptionv4.torch` is timm's, with that scale.
"""

from collections.abc import Mapping
from typing import Any

import keras
from keras import KerasTensor

from kcnn.models.inception_v1 import chain, concat
from kcnn.models.inception_v3 import fan
from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops

# Branches of convolutions: filters, kernel size, strides, padding
_REDUCTION_A = (((384, 3, 2, "valid"),), ((192, 1), (224, 3), (256, 3, 2, "valid")))  # figure 7
_REDUCTION_B = (  # figure 8
    ((192, 1), (192, 3, 2, "valid")),
    ((256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2, "valid")),
)


def branches(x: KerasTensor, ops: Ops, name: str, *rows: tuple[tuple[Any, ...], ...]) -> list[KerasTensor]:
    """Build one chain of convolutions for each row."""
    return [chain(x, ops, f"{name}_branch{index}", *row) for index, row in enumerate(rows)]


def pooled_branch(x: KerasTensor, ops: Ops, name: str, filters: int) -> KerasTensor:
    """Build 3x3 average pooling and a 1x1 convolution."""
    return chain(keras.layers.AveragePooling2D(3, 1, "same", name=f"{name}_pool")(x), ops, name, (filters, 1))


def reduction(x: KerasTensor, ops: Ops, name: str, *rows: tuple[tuple[Any, ...], ...]) -> KerasTensor:
    """Build branches that end at stride 2, and max pooling."""
    pool = keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x)
    return concat(name, *branches(x, ops, name, *rows), pool)


def _stem(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build figure 3: to the grid of 35x35."""
    x = chain(x, ops, "stem", (32, 3, 2, "valid"), (32, 3, 1, "valid"), (64, 3))
    pool = keras.layers.MaxPooling2D(3, 2, name="stem_mixed3a_pool")(x)
    x = concat("stem_mixed3a", pool, *branches(x, ops, "stem_mixed3a", ((96, 3, 2, "valid"),)))
    rows = (
        ((64, 1), (96, 3, 1, "valid")),
        ((64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1, "valid")),
    )
    x = concat("stem_mixed4a", *branches(x, ops, "stem_mixed4a", *rows))
    return reduction(x, ops, "stem_mixed5a", ((192, 3, 2, "valid"),))


def _inception_a(x: KerasTensor, ops: Ops, name: str) -> KerasTensor:
    """Build figure 4."""
    rows = (((96, 1),), ((64, 1), (96, 3)), ((64, 1), (96, 3), (96, 3)))
    return concat(name, *branches(x, ops, name, *rows), pooled_branch(x, ops, f"{name}_branch3", 96))


def _inception_b(x: KerasTensor, ops: Ops, name: str) -> KerasTensor:
    """Build figure 5."""
    rows = (
        ((384, 1),),
        ((192, 1), (224, (1, 7)), (256, (7, 1))),
        ((192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))),
    )
    return concat(name, *branches(x, ops, name, *rows), pooled_branch(x, ops, f"{name}_branch3", 128))


def _inception_c(x: KerasTensor, ops: Ops, name: str) -> KerasTensor:
    """Build figure 6."""
    rows = (((256, 1),), ((384, 1),), ((384, 1), (448, (3, 1)), (512, (1, 3))))
    single, *wide = branches(x, ops, name, *rows)
    fans = [fan(branch, ops, f"{name}_branch{index}", 256) for index, branch in enumerate(wide, start=1)]
    return concat(name, single, *fans, pooled_branch(x, ops, f"{name}_branch3", 256))


def features(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build figure 9: stem; grids of 35x35 (stage1), 17x17 (stage2) and 8x8 (stage3) at an input of 299."""
    x = _stem(x, ops)
    for letter in "bcde":
        x = _inception_a(x, ops, f"stage1_mixed5{letter}")
    x = reduction(x, ops, "stage2_mixed6a", *_REDUCTION_A)
    for letter in "bcdefgh":
        x = _inception_b(x, ops, f"stage2_mixed6{letter}")
    x = reduction(x, ops, "stage3_mixed7a", *_REDUCTION_B)
    for letter in "bcd":
        x = _inception_c(x, ops, f"stage3_mixed7{letter}")
    return x


def _row(name: str, norm_scale: bool, params: int, torch: Mapping[str, str] | None = None) -> ModelSpec:
    return ModelSpec(
        name,
        family="inceptionv4",
        features=features,
        paper="Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, "
        "AAAI 2017, arXiv:1602.07261",
        year=2016,
        input_size=299,
        min_size=75,
        params=params,
        macs=12_253_974_624,
        preprocessing="tf",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_scale": norm_scale,
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.2,
            "dropconnect": 0.0,
        },
        torch=torch or {},
        top1=80.2,  # the release's README; timm's weights are the same
        top5=95.2,
    )


# scale of batch norm, parameters, its name in torch
register(
    _row("inceptionv4", False, 42_648_232),
    _row("inceptionv4.torch", True, 42_679_816, {"timm": "inception_v4"}),
)
