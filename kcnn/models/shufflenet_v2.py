"""ShuffleNetV2 (Ma et al., "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design", ECCV 2018).

Table 5, in torchvision's arithmetic: symmetric padding, epsilon 1e-5, pixels normalised by mean and deviation.
"""

from collections.abc import Sequence
from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act, depthwise_norm
from kcnn.nn.layers import ChannelShuffle, ChannelSplit
from kcnn.nn.stages import BlockPosition, block_positions

_UNITS = (4, 8, 4)


def _unit(x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
    """Build figure 3 c: half the channels pass as they are; and d, at stride 2, where both branches take all."""
    name, strides = at.name, at.strides
    if strides == 1:
        shortcut, x = ChannelSplit(2, name=f"{name}_split")(x)
    else:
        shortcut = depthwise_norm(x, ops, 3, strides=strides, name=f"{name}_shortcut_depthwise")
        shortcut = conv_norm_act(shortcut, ops, channels // 2, 1, name=f"{name}_shortcut_conv")
    x = conv_norm_act(x, ops, channels // 2, 1, name=f"{name}_conv1")
    x = depthwise_norm(x, ops, 3, strides=strides, name=f"{name}_depthwise")
    x = conv_norm_act(x, ops, channels // 2, 1, name=f"{name}_conv2")
    x = keras.layers.Concatenate(name=f"{name}_concat")([shortcut, x])
    return ChannelShuffle(2, name=f"{name}_shuffle")(x)


def features(x: KerasTensor, ops: Ops, *, channels: Sequence[int]) -> KerasTensor:
    """Build a 3x3 convolution and max pooling, three stages of units, a 1x1 convolution; output stride 32.

    Args:
        x: float [N, H, W, 3].
        ops: the operations.
        channels: of the three stages and of the last convolution.
    """
    x = conv_norm_act(x, ops, 24, 3, strides=2, name="stem_conv")
    x = ops.max_pool(x, 3, 2, name="stem_pool")
    for at in block_positions(_UNITS, [2] * len(_UNITS), kind="unit"):
        x = _unit(x, ops, channels[at.stage - 1], at)
    return conv_norm_act(x, ops, channels[-1], 1, name="stage4_conv")


def _row(
    name: str, torchvision: str, channels: Sequence[int], params: int, macs: int, top1: float, top5: float
) -> ModelSpec:
    return ModelSpec(
        name,
        family="shufflenetv2",
        features=partial(features, channels=channels),
        paper="Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, ECCV 2018, "
        "arXiv:1807.11164",
        year=2018,
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="torch",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_epsilon": 1e-5,
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.0,
            "dropconnect": 0.0,
            "padding": "symmetric",
        },
        torch={"torchvision": torchvision},
        top1=top1,
        top5=top5,
        note="The paper's 69.4 and 74.9 % at width 1 and 2 are of training runs of its own.",
    )


# Table 5: its name in torchvision, channels of the stages and the last convolution, parameters, multiply-adds, top-1,
# top-5
register(
    _row("shufflenetv2", "shufflenet_v2_x1_0", (116, 232, 464, 1024), 2_278_604, 144_907_992, 69.36, 88.32),
    _row("shufflenetv2_0.5", "shufflenet_v2_x0_5", (48, 96, 192, 1024), 1_366_792, 40_476_448, 60.55, 81.75),
    _row("shufflenetv2_1.5", "shufflenet_v2_x1_5", (176, 352, 704, 1024), 3_503_624, 295_759_392, 73.0, 91.09),
    _row("shufflenetv2_2.0", "shufflenet_v2_x2_0", (244, 488, 976, 2048), 7_393_996, 583_253_464, 76.23, 93.01),
)
