"""BN-Inception (Ioffe & Szegedy, ICML 2015).

"Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift".

The appendix's figure 5, in the arithmetic of the Caffe network that others have ported: symmetric padding, average
pooling that counts it, epsilon 1e-5, convolutions with biases, which the batch norm after them makes redundant, and a
plain first convolution, where the authors' had a separable one with 8 channels out of each. Max pooling is "same",
which is Caffe's at even sizes; at odd ones, Caffe's pooling does not fit the convolutions beside it.
"""

from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.inception_v1 import chain, concat
from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act

_FIGURE5 = (
    # name  1x1  3x3 reduce, 3x3  double 3x3 reduce, double 3x3  pool, projection; without a 1x1 at stride 2
    ("3a", 64, 64, 64, 64, 96, "average", 32),
    ("3b", 64, 64, 96, 64, 96, "average", 64),
    ("3c", 0, 128, 160, 64, 96, "max", 0),
    ("4a", 224, 64, 96, 96, 128, "average", 128),
    ("4b", 192, 96, 128, 96, 128, "average", 128),
    ("4c", 160, 128, 160, 128, 160, "average", 128),
    ("4d", 96, 128, 192, 160, 192, "average", 128),
    ("4e", 0, 128, 192, 192, 256, "max", 0),
    ("5a", 352, 192, 320, 160, 224, "average", 128),
    ("5b", 352, 192, 320, 192, 224, "max", 128),
)


def average_pool(x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    """Build 3x3 average pooling at stride 1; symmetric padding averages the zeros in, as Caffe and torch do."""
    padding = ops.padding
    if padding == "symmetric":
        x, padding = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(x), "valid"
    return keras.layers.AveragePooling2D(3, 1, padding, name=name)(x)


def _inception(
    x: KerasTensor, ops: Ops, name: str, conv1: int, filters: tuple[int, ...], pool: str, projection: int
) -> KerasTensor:
    """Build figure 2b of GoogLeNet, its 5x5 convolution as two of 3x3."""
    reduce3, conv3, reduce_double, double = filters
    convs = partial(chain, use_bias=True)
    strides = 1 if conv1 else 2
    branches = [
        convs(x, ops, f"{name}_3x3", (reduce3, 1), (conv3, 3, strides)),
        convs(x, ops, f"{name}_double3x3", (reduce_double, 1), (double, 3), (double, 3, strides)),
    ]
    if strides == 2:
        return concat(name, *branches, keras.layers.MaxPooling2D(3, 2, "same", name=f"{name}_pool")(x))
    if pool == "average":
        pooled = average_pool(x, ops, name=f"{name}_pool")
    else:
        pooled = keras.layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    return concat(
        name,
        convs(x, ops, f"{name}_1x1", (conv1, 1)),
        *branches,
        convs(pooled, ops, f"{name}_pool", (projection, 1)),
    )


def features(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build the stem; inception (3a) and on at stride 8 (stage1), (3c) on at 16 (stage2), (4e) on at 32 (stage3)."""
    x = conv_norm_act(x, ops, 64, 7, strides=2, use_bias=True, name="stem_conv1")
    x = keras.layers.MaxPooling2D(3, 2, "same", name="stem_pool1")(x)
    x = conv_norm_act(x, ops, 64, 1, use_bias=True, name="stem_conv2")
    x = conv_norm_act(x, ops, 192, 3, use_bias=True, name="stem_conv3")
    x = keras.layers.MaxPooling2D(3, 2, "same", name="stem_pool2")(x)
    stage = 1
    for name, conv1, *filters, pool, projection in _FIGURE5:
        stage += not conv1
        x = _inception(x, ops, f"stage{stage}_inception{name}", conv1, tuple(filters), pool, projection)
    return x


register(
    ModelSpec(
        "bninception",
        family="bninception",
        features=features,
        paper="Ioffe & Szegedy, Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate "
        "Shift, ICML 2015, arXiv:1502.03167",
        year=2015,
        input_size=224,
        min_size=32,
        params=11_295_240,
        macs=2_032_600_064,
        preprocessing="caffe",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_epsilon": 1e-5,
            "padding": "symmetric",
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.0,  # section 4.2.1
            "dropconnect": 0.0,
        },
        top1=74.8,
        top5=92.2,
        note="Parameters are those of the ports of the Caffe network, biases included: the paper has no count.",
    ),
)
