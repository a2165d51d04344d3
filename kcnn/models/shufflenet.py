"""ShuffleNet (Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices",
CVPR 2018).

Table 1, with the five numbers of groups, at any width multiplier (`width=`; the paper's are 0.25, 0.5, 1, 1.5 and 2).
Padding is symmetric, and zeros count in the average, as in the authors' release (megvii-model/ShuffleNet-Series);
pixels are normalised by mean and deviation.
"""

from functools import partial
from typing import Any

import keras

from kcnn.models.spec import MODELS, ModelSpec
from kcnn.nn.blocks import Ops, check_width, conv_norm, conv_norm_act, depthwise_norm, make_divisible, pad
from kcnn.nn.layers import ChannelShuffle

_UNITS = (4, 8, 4)
_CHANNELS = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}  # groups → of the first stage; the next ones double
_ROWS = (
    # name, groups, width, parameters, multiply-adds, top-1 (tables 2 and 5)
    ("shufflenet", 3, 1.0, 1_865_728, 137_460_672, 67.4),
    ("shufflenet_g1", 1, 1.0, 1_531_936, 143_078_976, 66.4),
    ("shufflenet_g2", 2, 1.0, 1_733_848, 140_836_512, 67.3),
    ("shufflenet_g4", 4, 1.0, 1_968_344, 134_339_776, 67.2),
    ("shufflenet_g8", 8, 1.0, 2_434_768, 138_365_952, 67.6),
    ("shufflenet_0.25", 3, 0.25, 306_124, 13_300_656, 45.0),
    ("shufflenet_0.5", 3, 0.5, 718_324, 37_589_856, 56.8),
    ("shufflenet_1.5", 3, 1.5, 3_442_168, 292_443_552, 71.5),
    ("shufflenet_2.0", 3, 2.0, 5_450_776, 524_045_184, 73.7),
)


def _unit(x: Any, ops: Ops, channels: int, *, groups: int, grouped_input: bool, strides: int, name: str) -> Any:
    """Figure 2 b, and c at stride 2, where the branch gives what the shortcut's channels leave to do."""
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


def features(x: Any, ops: Ops, *, groups: int, width: float) -> Any:
    """A 3x3 convolution and max pooling, three stages of units; output stride 32."""
    check_width(width, "0.25 to 2")
    stem = 12 if width < 1 else 24 if width < 2 else 48  # as the release has it; and the figures of table 5 ask for it
    x = conv_norm_act(x, ops, make_divisible(stem, groups), 3, strides=2, name="stem_conv")
    x = ops.max_pool(x, 3, 2, name="stem_pool")
    for stage, units in enumerate(_UNITS, start=1):
        # The bottleneck, a quarter of the channels, is a multiple of the groups.
        channels = make_divisible(_CHANNELS[groups] * width, 4 * groups) * 2 ** (stage - 1)
        for index in range(1, units + 1):
            x = _unit(
                x,
                ops,
                channels,
                groups=groups,
                grouped_input=stage > 1 or index > 1,  # the first has too few channels for it (section 3.2)
                strides=2 if index == 1 else 1,
                name=f"stage{stage}_unit{index}",
            )
    return x


for _name, _groups, _width, _params, _macs, _top1 in _ROWS:
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="shufflenet",
            features=partial(features, groups=_groups),
            paper="Zhang et al., ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices, "
            "CVPR 2018, arXiv:1707.01083",
            year=2017,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="torch",
            design={
                "width": _width,
                "norm": "batch",
                "bn_momentum": 0.99,
                "norm_epsilon": 1e-5,
                "activation": "relu",
                "kernel_initializer": "he_normal",
                "dropout": 0.0,
                "padding": "symmetric",
            },
            top1=_top1,
            note="The paper's multiply-adds (143, 140, 137, 133 and 137 M by groups) leave the classifier out.",
        ),
    )
