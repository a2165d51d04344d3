"""Inception v3 (Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016).

The network of the authors' release (tensorflow/models, slim/nets/inception_v3) and keras.applications, which is the
paper's Table 1 with the modules of figures 5 to 7; without the auxiliary head. Batch norm has no scale, as there.
Blocks are called by the release's names of the concatenations, mixed0 to mixed10.
"""

from typing import Any

import keras

from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act


def _chain(x: Any, ops: Ops, name: str, *convs: tuple[Any, ...]) -> Any:
    """Convolutions one after the other: (filters, kernel size[, strides]), "valid" padding at stride 2."""
    for index, (filters, kernel_size, *strides) in enumerate(convs, start=1):
        stride = strides[0] if strides else 1
        padding = "valid" if stride == 2 else "same"
        x = conv_norm_act(x, ops, filters, kernel_size, strides=stride, padding=padding, name=f"{name}_conv{index}")
    return x


def _concat(name: str, *branches: Any) -> Any:
    return keras.layers.Concatenate(name=f"{name}_concat")(list(branches))


def _pool_branch(x: Any, ops: Ops, name: str, filters: int) -> Any:
    x = keras.layers.AveragePooling2D(3, 1, "same", name=f"{name}_pool")(x)
    return _chain(x, ops, f"{name}_pool", (filters, 1))


def _figure5(x: Any, ops: Ops, name: str, pool_filters: int) -> Any:
    """5x5 convolutions as two of 3x3 (the release keeps one 5x5 in the second branch)."""
    return _concat(
        name,
        _chain(x, ops, f"{name}_1x1", (64, 1)),
        _chain(x, ops, f"{name}_5x5", (48, 1), (64, 5)),
        _chain(x, ops, f"{name}_3x3dbl", (64, 1), (96, 3), (96, 3)),
        _pool_branch(x, ops, name, pool_filters),
    )


def _reduction_a(x: Any, ops: Ops, name: str) -> Any:
    """Figure 10: to the grid of 17x17."""
    return _concat(
        name,
        _chain(x, ops, f"{name}_3x3", (384, 3, 2)),
        _chain(x, ops, f"{name}_3x3dbl", (64, 1), (96, 3), (96, 3, 2)),
        keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x),
    )


def _figure6(x: Any, ops: Ops, name: str, filters: int) -> Any:
    """7x7 convolutions as 1x7 and 7x1."""
    return _concat(
        name,
        _chain(x, ops, f"{name}_1x1", (192, 1)),
        _chain(x, ops, f"{name}_7x7", (filters, 1), (filters, (1, 7)), (192, (7, 1))),
        _chain(
            x,
            ops,
            f"{name}_7x7dbl",
            (filters, 1),
            (filters, (7, 1)),
            (filters, (1, 7)),
            (filters, (7, 1)),
            (192, (1, 7)),
        ),
        _pool_branch(x, ops, name, 192),
    )


def _reduction_b(x: Any, ops: Ops, name: str) -> Any:
    """To the grid of 8x8."""
    return _concat(
        name,
        _chain(x, ops, f"{name}_3x3", (192, 1), (320, 3, 2)),
        _chain(x, ops, f"{name}_7x7x3", (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)),
        keras.layers.MaxPooling2D(3, 2, name=f"{name}_pool")(x),
    )


def _figure7(x: Any, ops: Ops, name: str) -> Any:
    """Branches that widen: 3x3 as 1x3 and 3x1 side by side."""

    def fan(x: Any, name: str) -> Any:
        return _concat(name, _chain(x, ops, f"{name}_1x3", (384, (1, 3))), _chain(x, ops, f"{name}_3x1", (384, (3, 1))))

    return _concat(
        name,
        _chain(x, ops, f"{name}_1x1", (320, 1)),
        fan(_chain(x, ops, f"{name}_3x3", (384, 1)), f"{name}_3x3"),
        fan(_chain(x, ops, f"{name}_3x3dbl", (448, 1), (384, 3)), f"{name}_3x3dbl"),
        _pool_branch(x, ops, name, 192),
    )


def features(x: Any, ops: Ops) -> Any:
    """Stem; grids of 35x35 (stage1), 17x17 (stage2) and 8x8 (stage3) at an input of 299."""
    x = conv_norm_act(x, ops, 32, 3, strides=2, padding="valid", name="stem_conv1")
    x = conv_norm_act(x, ops, 32, 3, padding="valid", name="stem_conv2")
    x = conv_norm_act(x, ops, 64, 3, name="stem_conv3")
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool1")(x)
    x = conv_norm_act(x, ops, 80, 1, padding="valid", name="stem_conv4")
    x = conv_norm_act(x, ops, 192, 3, padding="valid", name="stem_conv5")
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool2")(x)
    for index, pool_filters in enumerate((32, 64, 64)):
        x = _figure5(x, ops, f"stage1_mixed{index}", pool_filters)
    x = _reduction_a(x, ops, "stage2_mixed3")
    for index, filters in enumerate((128, 160, 160, 192), start=4):
        x = _figure6(x, ops, f"stage2_mixed{index}", filters)
    x = _reduction_b(x, ops, "stage3_mixed8")
    for index in (9, 10):
        x = _figure7(x, ops, f"stage3_mixed{index}")
    return x


MODELS.add(
    "inceptionv3",
    ModelSpec(
        name="inceptionv3",
        family="inception",
        features=features,
        paper="Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv:1512.00567",
        year=2015,
        input_size=299,
        min_size=75,
        params=23_817_352,
        macs=5_713_216_096,
        preprocessing="tf",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_scale": False,
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.2,  # the release's keep probability of 0.8
        },
        application=Application(
            "InceptionV3",
            "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
            md5="9a0d58056eeedaa3f26cb7ebd46da564",
        ),
        top1=77.9,
        top5=93.7,
        note="The paper has 5 billion multiply-adds; torchvision's 27.2 M parameters include the auxiliary head.",
    ),
)
