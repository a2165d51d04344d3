"""LeNet-5 (LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proceedings of the IEEE, 1998).

Figure 2 and section II.B, with subsampling that learns and table I's connections of C3. Deviations: colour images; a
dense layer where the paper compares with drawings of the characters (its radial basis functions); tanh without the
constants 1.7159 and 2/3, which the weights before and after it can take up; drawn as LeCun et al. came to
recommend ("Efficient BackProp", 1998), since the paper's 2.4 / fan-in vanishes in wide layers.

`lenet_caffe` is the network of Caffe's MNIST example, for images of 28 pixels.
"""

from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops
from kcnn.nn.heads import fully_connected
from kcnn.nn.layers import ChannelSplit

# For each map of C3, the maps of S2 that it sees.
_TABLE1 = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)


def _convolution(x: KerasTensor, ops: Ops, filters: int, *, name: str) -> KerasTensor:
    return ops.conv(x, filters, 5, padding="valid", use_bias=True, name=name)


def _subsample(x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    """Build the mean of 2x2 places, scaled and shifted by two numbers for each map."""
    x = keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)
    x = keras.layers.DepthwiseConv2D(1, depthwise_initializer="ones", name=name)(x)
    return ops.activate(x, name=f"{name}_act")


def _c3(x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    """Build table I: maps that see equally many others are one grouped convolution."""
    maps = ChannelSplit(x.shape[-1], name=f"{name}_split")(x)
    parts = []
    for seen in (3, 4, 6):
        rows = [row for row in _TABLE1 if len(row) == seen]
        chosen = keras.layers.Concatenate(name=f"{name}_see{seen}")([maps[index] for row in rows for index in row])
        part = ops.conv(
            chosen, len(rows), 5, padding="valid", groups=len(rows), use_bias=True, name=f"{name}_from{seen}"
        )
        parts.append(part)
    return keras.layers.Concatenate(name=name)(parts)


def _lenet5(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build C1 to C5."""
    x = ops.activate(_convolution(x, ops, 6, name="stage1_conv"), name="stage1_conv_act")
    x = _subsample(x, ops, name="stage1_subsample")
    x = ops.activate(_c3(x, ops, name="stage2_conv"), name="stage2_conv_act")
    x = _subsample(x, ops, name="stage2_subsample")
    return ops.activate(_convolution(x, ops, 120, name="stage3_conv"), name="stage3_conv_act")


def _lenet_caffe(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build two convolutions, without activations, each with max pooling."""
    for stage, filters in enumerate((20, 50), start=1):
        x = _convolution(x, ops, filters, name=f"stage{stage}_conv")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    return x


_row = partial(
    ModelSpec,
    family="lenet",
    paper="LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proceedings of the IEEE 86, 1998",
    year=1998,
    preprocessing="tf",
)

register(
    _row(
        "lenet5",
        features=_lenet5,
        head=partial(fully_connected, units=(84,)),
        input_size=32,
        min_size=32,
        params=145_300,
        macs=646_456,
        design={"activation": "tanh", "kernel_initializer": "lecun_normal", "dropout": 0.0, "dropconnect": 0.0},
        note="The paper's 60,000 parameters: C1 156, S2 12, C3 1516, S4 32, C5 48,120, F6 10,164. Colour makes C1 456; "
        "the classifier has 85 more for each class.",
    ),
    _row(
        "lenet_caffe",
        features=_lenet_caffe,
        head=partial(fully_connected, units=(500,)),
        input_size=28,
        min_size=16,
        params=928_070,
        macs=3_364_000,
        design={"activation": "relu", "kernel_initializer": "glorot_uniform", "dropout": 0.0, "dropconnect": 0.0},
        note="Caffe's 431,080 parameters are 520 + 25,050 + 400,500 + 5010, of grey images and 10 classes. Colour "
        "makes the first 1520, 1000 classes make the last 501,000.",
    ),
)
