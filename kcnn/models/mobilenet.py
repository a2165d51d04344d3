"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018).

Table 2, at any width multiplier (`width=`). As in the reference implementation and keras.applications, channels are
rounded to multiples of 8, and the last convolution keeps its 1280 channels below width 1. Batch norm's momentum is
0.99, not 0.999 as there (see `Ops`).
"""

from typing import Any

from kcnn.errors import UserError
from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act, make_divisible

_TABLE2 = (
    # t, c, n, s: expansion, channels, repeats, stride of the first
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_WIDTHS = (
    # width, parameters, multiply-adds, top-1 and top-5 (keras.io for width 1; the reference implementation's README)
    (1.0, 3_504_872, 300_774_272, 71.3, 90.1),
    (0.35, 1_677_128, 59_285_808, 60.3, 82.9),
    (0.5, 1_968_680, 97_131_840, 65.4, 86.4),
    (0.75, 2_636_424, 209_069_792, 69.8, 89.6),
    (1.3, 5_386_792, 509_374_560, 74.4, 92.1),
    (1.4, 6_108_776, 582_195_824, 75.0, 92.5),
)


def _inverted_residual(
    x: Any, ops: Ops, channels: int, *, expansion: int, strides: int, depth: float, name: str
) -> Any:
    """Table 1: 1x1 expansion, 3x3 depthwise, 1x1 linear projection; a shortcut where the shapes agree."""
    shortcut, width = x, x.shape[-1]
    if expansion > 1:
        x = conv_norm_act(x, ops, expansion * width, 1, name=f"{name}_expand")
    x = ops.depthwise(x, 3, strides=strides, name=f"{name}_depthwise")
    x = ops.activate(ops.normalize(x, name=f"{name}_depthwise_norm"), name=f"{name}_depthwise_act")
    x = ops.normalize(ops.conv(x, channels, 1, name=f"{name}_project"), name=f"{name}_project_norm")
    return ops.residual(shortcut, x, depth=depth, name=name) if strides == 1 and width == channels else x


def features(x: Any, ops: Ops, *, width: float) -> Any:
    """A 3x3 convolution at stride 2, seven stages of inverted residuals, a 1x1 convolution; output stride 32."""
    if not isinstance(width, int | float) or not 0 < width <= 10:
        raise UserError(f"width {width!r}: expected a number above 0, to 10; the paper's are 0.35 to 1.4")
    x = conv_norm_act(x, ops, make_divisible(32 * width), 3, strides=2, name="stem_conv")
    total, count = sum(row[2] for row in _TABLE2), 0
    for stage, (expansion, channels, repeats, strides) in enumerate(_TABLE2, start=1):
        for index in range(1, repeats + 1):
            count += 1
            x = _inverted_residual(
                x,
                ops,
                make_divisible(int(channels * width)),
                expansion=expansion,
                strides=strides if index == 1 else 1,
                depth=count / total,
                name=f"stage{stage}_block{index}",
            )
    return conv_norm_act(x, ops, make_divisible(1280 * max(1.0, width)), 1, name="stage8_conv")


for _width, _params, _macs, _top1, _top5 in _WIDTHS:
    _name = "mobilenetv2" if _width == 1 else f"mobilenetv2_{_width}"
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="mobilenetv2",
            features=features,
            paper="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv:1801.04381",
            year=2018,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="tf",
            design={
                "width": _width,
                "norm": "batch",
                "bn_momentum": 0.99,
                "activation": "relu6",
                "kernel_initializer": "he_normal",
                "dropout": 0.2,
                "drop_path": 0.0,
            },
            application=Application(
                "MobileNetV2",
                f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{_width}_224.h5",
                arguments={"alpha": _width},
            ),
            top1=_top1,
            top5=_top5,
            note="The paper has 3.4 M parameters at width 1 and 6.9 M at 1.4; its reference implementation 3.47 M and "
            "6.06 M, which are these without batch norm's.",
        ),
    )
