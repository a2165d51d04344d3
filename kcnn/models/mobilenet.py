"""MobileNet (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications").

Table 1, at any width multiplier (`width=`, section 3.3). As in the reference implementation and keras.applications,
activations are ReLU6 where the paper has ReLU. Strided depthwise convolutions are padded below and on the right, as in
keras.applications: that is TensorFlow's "same" where the size is even.

`mobilenet.torch` is timm's: symmetric padding, epsilon 1e-5.
"""

from collections.abc import Mapping
from typing import Any

import keras

from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, check_width, conv_norm_act, depthwise_norm

_TABLE1 = (
    # channels, blocks, stride of the first
    (64, 1, 1),
    (128, 2, 2),
    (256, 2, 2),
    (512, 6, 2),
    (1024, 2, 2),
)
_WIDTHS = (
    # width, its name in files, parameters, multiply-adds, top-1 and top-5 (keras.io for width 1; the reference
    # implementation's README)
    (1.0, "1_0", 4_231_976, 568_740_352, 70.4, 89.5),
    (0.75, "7_5", 2_585_560, 325_400_448, 68.4, 88.2),
    (0.5, "5_0", 1_331_592, 149_497_088, 63.3, 84.9),
    (0.25, "2_5", 470_072, 41_030_272, 49.8, 74.2),
)


def depthwise_norm_act(x: Any, ops: Ops, kernel_size: int, *, name: str, **conv: Any) -> Any:
    """As `depthwise_norm`, and activation `name_act`."""
    return ops.activate(depthwise_norm(x, ops, kernel_size, name=name, **conv), name=f"{name}_act")


def _separable(x: Any, ops: Ops, channels: int, *, strides: int, name: str) -> Any:
    """Figure 3, right: 3x3 depthwise and 1x1 convolution, each with normalisation and activation."""
    padding = None
    if strides > 1 and ops.padding == "same":
        x, padding = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x), "valid"
    x = depthwise_norm_act(x, ops, 3, strides=strides, padding=padding, name=f"{name}_depthwise")
    return conv_norm_act(x, ops, channels, 1, name=f"{name}_pointwise")


def features(x: Any, ops: Ops, *, width: float) -> Any:
    """A 3x3 convolution at stride 2, five stages of depthwise separable ones; output stride 32."""
    check_width(width)
    x = conv_norm_act(x, ops, max(1, int(32 * width)), 3, strides=2, name="stem_conv")
    for stage, (channels, blocks, strides) in enumerate(_TABLE1, start=1):
        for index in range(1, blocks + 1):
            x = _separable(
                x,
                ops,
                max(1, int(channels * width)),
                strides=strides if index == 1 else 1,
                name=f"stage{stage}_block{index}",
            )
    return x


def _add(name: str, width: float, params: int, macs: int, design: Mapping[str, Any], **fields: Any) -> None:
    MODELS.add(
        name,
        ModelSpec(
            name=name,
            family="mobilenet",
            features=features,
            paper="Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, "
            "arXiv:1704.04861",
            year=2017,
            input_size=224,
            min_size=32,
            params=params,
            macs=macs,
            preprocessing="tf",
            design={
                "width": width,
                "norm": "batch",
                "bn_momentum": 0.99,
                "activation": "relu6",
                "kernel_initializer": "he_normal",
                "dropout": 1e-3,
                **design,
            },
            **fields,
        ),
    )


for _width, _file, _params, _macs, _top1, _top5 in _WIDTHS:
    _add(
        "mobilenet" if _width == 1 else f"mobilenet_{_width}",
        _width,
        _params,
        _macs,
        {},
        application=Application("MobileNet", f"mobilenet/mobilenet_{_file}_224_tf.h5", arguments={"alpha": _width}),
        top1=_top1,
        top5=_top5,
        note="The paper has 70.6, 68.4, 63.7 and 50.6 % at widths 1, 0.75, 0.5 and 0.25.",
    )
_add(
    "mobilenet.torch",
    1.0,
    *_WIDTHS[0][2:4],
    {"norm_epsilon": 1e-5, "padding": "symmetric"},
    torch={"timm": "mobilenetv1_100"},
    top1=75.38,  # timm's README
    top5=92.31,
)
