"""ShuffleNet (Zhang et al., CVPR 2018).

"ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices".

Table 1, with the five numbers of groups, at any width multiplier (`width=`; the paper's are 0.25, 0.5, 1, 1.5 and 2).
Padding is symmetric, and zeros count in the average, as in the authors' release (megvii-model/ShuffleNet-Series);
pixels are normalised by mean and deviation.
"""

from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm, conv_norm_act, depthwise_norm, make_divisible, pad
from kcnn.nn.layers import ChannelShuffle
from kcnn.nn.stages import BlockPosition, block_positions

_UNITS = (4, 8, 4)
_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # groups → of the first stage; the next ones double


def _unit(
    x: KerasTensor, ops: Ops, channels: int, at: BlockPosition, *, groups: int, grouped_input: bool
) -> KerasTensor:
    """Build figure 2 b, and c at stride 2, where the branch adds to the shortcut's channels."""
    name, strides = at.name, at.strides
    shortcut, width = x, channels // 4
    if strides > 1:
        shortcut = pad(x, 1, name=f"{name}_shortcut_pad")
        shortcut = keras.layers.AveragePooling2D(3, strides, name=f"{name}_shortcut_pool")(shortcut)
        channels -= x.shape[-1]
    x = conv_norm_act(x, ops, width, 1, groups=groups if grouped_input else 1, name=f"{name}_conv1")
    if groups > 1:
        x = ChannelShuffle(groups, name=f"{name}_shuffle")(x)
    x = depthwise_norm(x, ops, 3, strides=strides, name=f"{name}_depthwise")
    x = conv_norm(x, ops, channels, 1, groups=groups, name=f"{name}_conv2")
    if strides > 1:
        x = keras.layers.Concatenate(name=f"{name}_concat")([shortcut, x])
    else:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return ops.activate(x, name=f"{name}_act")


def features(x: KerasTensor, ops: Ops, *, groups: int, width: float) -> KerasTensor:
    """Build a 3x3 convolution and max pooling, three stages of units; output stride 32."""
    stem = 12 if width < 1 else 24 if width < 2 else 48  # as the release has it; and the figures of table 5 ask for it
    x = conv_norm_act(x, ops, make_divisible(stem, groups), 3, strides=2, name="stem_conv")
    x = ops.max_pool(x, 3, 2, name="stem_pool")
    for at in block_positions(_UNITS, [2] * len(_UNITS), kind="unit"):
        # The bottleneck, a quarter of the channels, is a multiple of the groups.
        channels = make_divisible(_CHANNELS[groups] * width, 4 * groups) * 2 ** (at.stage - 1)
        first = at.stage == at.index == 1  # has too few channels for groups (section 3.2)
        x = _unit(x, ops, channels, at, groups=groups, grouped_input=not first)
    return x


def _row(name: str, groups: int, width: float, params: int, macs: int, top1: float) -> ModelSpec:
    return ModelSpec(
        name,
        family="shufflenet",
        features=partial(features, groups=groups),
        paper="Zhang et al., ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, "
        "CVPR 2018, arXiv:1707.01083",
        year=2017,
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="torch",
        design={
            "width": width,
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_epsilon": 1e-5,
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.0,
            "dropconnect": 0.0,
            "padding": "symmetric",
        },
        top1=top1,
        note="The paper's multiply-adds (143, 140, 137, 133 and 137 M by groups) leave the classifier out.",
    )


# groups, width, parameters, multiply-adds, top-1 (tables 2 and 5)
register(
    _row("shufflenet", 3, 1.0, 1_865_728, 137_460_672, 67.4),
    _row("shufflenet_g1", 1, 1.0, 1_531_936, 143_078_976, 66.4),
    _row("shufflenet_g2", 2, 1.0, 1_733_848, 140_836_512, 67.3),
    _row("shufflenet_g4", 4, 1.0, 1_968_344, 134_339_776, 67.2),
    _row("shufflenet_g8", 8, 1.0, 2_434_768, 138_365_952, 67.6),
    _row("shufflenet_0.25", 3, 0.25, 306_124, 13_300_656, 45.0),
    _row("shufflenet_0.5", 3, 0.5, 718_324, 37_589_856, 56.8),
    _row("shufflenet_1.5", 3, 1.5, 3_442_168, 292_443_552, 71.5),
    _row("shufflenet_2.0", 3, 2.0, 5_450_776, 524_045_184, 73.7),
)
