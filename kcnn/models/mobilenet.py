"""MobileNet (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications").

Table 1, at any width multiplier (`width=`, section 3.3). As in the reference implementation and keras.applications,
activations are ReLU6 where the paper has ReLU. Strided depthwise convolutions are padded below and on the right, as in
keras.applications: that is TensorFlow's "same" where the size is even.

`mobilenet.torch` is timm's: symmetric padding, epsilon 1e-5.
"""

from collections.abc import Mapping
from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import Application, DesignValue, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act, depthwise_norm_act
from kcnn.nn.stages import BlockPosition, block_positions

_TABLE1 = (
    # channels, blocks, stride of the first
    (64, 1, 1),
    (128, 2, 2),
    (256, 2, 2),
    (512, 6, 2),
    (1024, 2, 2),
)


def _separable(x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
    """Build figure 3, right: 3x3 depthwise and 1x1 convolution, each with normalisation and activation."""
    padding = None
    if at.strides > 1 and ops.padding == "same":
        x, padding = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{at.name}_pad")(x), "valid"
    x = depthwise_norm_act(x, ops, 3, strides=at.strides, padding=padding, name=f"{at.name}_depthwise")
    return conv_norm_act(x, ops, channels, 1, name=f"{at.name}_pointwise")


def features(x: KerasTensor, ops: Ops, *, width: float) -> KerasTensor:
    """Build a 3x3 convolution at stride 2, five stages of depthwise separable ones; output stride 32."""
    x = conv_norm_act(x, ops, max(1, int(32 * width)), 3, strides=2, name="stem_conv")
    channels, depths, strides = zip(*_TABLE1, strict=True)
    for at in block_positions(depths, strides):
        x = _separable(x, ops, max(1, int(channels[at.stage - 1] * width)), at)
    return x


def _design(width: float, **more: DesignValue) -> Mapping[str, DesignValue]:
    return {
        "width": width,
        "norm": "batch",
        "bn_momentum": 0.99,
        "activation": "relu6",
        "kernel_initializer": "he_normal",
        "dropout": 1e-3,
        "dropconnect": 0.0,
        **more,
    }


_row = partial(
    ModelSpec,
    family="mobilenet",
    features=features,
    paper="Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, "
    "arXiv:1704.04861",
    year=2017,
    input_size=224,
    min_size=32,
    preprocessing="tf",
)


def _keras(name: str, width: float, file: str, params: int, macs: int, top1: float, top5: float) -> ModelSpec:
    return _row(
        name,
        params=params,
        macs=macs,
        design=_design(width),
        application=Application("MobileNet", f"mobilenet/mobilenet_{file}_224_tf.h5", arguments={"alpha": width}),
        top1=top1,
        top5=top5,
        note="The paper has 70.6, 68.4, 63.7 and 50.6 % at widths 1, 0.75, 0.5 and 0.25.",
    )


register(
    # width, its name in files, parameters, multiply-adds, top-1 and top-5 (keras.io for width 1; the reference
    # implementation's README)
    _keras("mobilenet", 1.0, "1_0", 4_231_976, 568_740_352, 70.4, 89.5),
    _keras("mobilenet_0.75", 0.75, "7_5", 2_585_560, 325_400_448, 68.4, 88.2),
    _keras("mobilenet_0.5", 0.5, "5_0", 1_331_592, 149_497_088, 63.3, 84.9),
    _keras("mobilenet_0.25", 0.25, "2_5", 470_072, 41_030_272, 49.8, 74.2),
    _row(
        "mobilenet.torch",
        params=4_231_976,
        macs=568_740_352,
        design=_design(1.0, norm_epsilon=1e-5, padding="symmetric"),
        torch={"timm": "mobilenetv1_100"},
        top1=75.38,  # timm's README
        top5=92.31,
    ),
)
