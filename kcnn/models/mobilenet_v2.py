"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018).

Table 2, at any width multiplier (`width=`). As in the reference implementation and keras.applications, channels are
rounded to multiples of 8, and the last convolution keeps its 1280 channels below width 1. Batch norm's momentum is
0.99, not 0.999 as there (see `Ops`).

The rows `.torch` are torchvision's and timm's: symmetric padding, epsilon 1e-5, and pixels normalised by mean and
deviation.
"""

from collections.abc import Callable, Mapping
from typing import Any

from kcnn.models.mobilenet import depthwise_norm_act
from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, check_width, conv_norm, conv_norm_act, make_divisible

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
_TORCH: dict[float, tuple[dict[str, str], float | None, float | None]] = {
    # width → names, top-1 and top-5 (torchvision's first weights for width 1; timm's results)
    1.0: ({"torchvision": "mobilenet_v2", "timm": "mobilenetv2_100"}, 71.88, 90.29),
    0.35: ({"timm": "mobilenetv2_035"}, None, None),
    0.5: ({"timm": "mobilenetv2_050"}, 65.95, 86.09),
    0.75: ({"timm": "mobilenetv2_075"}, None, None),
    1.4: ({"timm": "mobilenetv2_140"}, 76.52, 92.99),
}


def inverted_residual(
    x: Any,
    ops: Ops,
    channels: int,
    *,
    expansion: float,
    strides: int,
    depth: float,
    name: str,
    kernel_size: int = 3,
    squeeze: Callable[..., Any] | None = None,
) -> Any:
    """1x1 expansion, depthwise convolution, 1x1 linear projection; a shortcut where the shapes agree (table 1).

    Args:
        x: float [N, H, W, C].
        ops: the operations.
        channels: of the output.
        expansion: channels of the depthwise convolution over C; 1 for no 1x1 convolution in front of it.
        strides: of the depthwise convolution.
        depth: see `Ops.residual`.
        name: of the block.
        kernel_size: of the depthwise convolution.
        squeeze: squeeze and excitation behind it, if any: (x, ops, *, name) → x.
    """
    shortcut, width = x, x.shape[-1]
    if expansion != 1:
        x = conv_norm_act(x, ops, make_divisible(expansion * width), 1, name=f"{name}_expand")
    x = depthwise_norm_act(x, ops, kernel_size, strides=strides, name=f"{name}_depthwise")
    if squeeze:
        x = squeeze(x, ops, name=f"{name}_se")
    x = conv_norm(x, ops, channels, 1, name=f"{name}_project")
    return ops.residual(shortcut, x, depth=depth, name=name) if strides == 1 and width == channels else x


def features(x: Any, ops: Ops, *, width: float) -> Any:
    """A 3x3 convolution at stride 2, seven stages of inverted residuals, a 1x1 convolution; output stride 32."""
    check_width(width)
    x = conv_norm_act(x, ops, make_divisible(32 * width), 3, strides=2, name="stem_conv")
    total, count = sum(row[2] for row in _TABLE2), 0
    for stage, (expansion, channels, repeats, strides) in enumerate(_TABLE2, start=1):
        for index in range(1, repeats + 1):
            count += 1
            x = inverted_residual(
                x,
                ops,
                make_divisible(int(channels * width)),
                expansion=expansion,
                strides=strides if index == 1 else 1,
                depth=count / total,
                name=f"stage{stage}_block{index}",
            )
    return conv_norm_act(x, ops, make_divisible(1280 * max(1.0, width)), 1, name="stage8_conv")


def _add(name: str, width: float, params: int, macs: int, design: Mapping[str, Any], **fields: Any) -> None:
    MODELS.add(
        name,
        ModelSpec(
            name=name,
            family="mobilenetv2",
            features=features,
            paper="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv:1801.04381",
            year=2018,
            input_size=224,
            min_size=32,
            params=params,
            macs=macs,
            design={
                "width": width,
                "norm": "batch",
                "bn_momentum": 0.99,
                "activation": "relu6",
                "kernel_initializer": "he_normal",
                "dropout": 0.2,
                "drop_path": 0.0,
                **design,
            },
            note="The paper has 3.4 M parameters at width 1 and 6.9 M at 1.4; its reference implementation 3.47 M and "
            "6.06 M, which are these without batch norm's.",
            **fields,
        ),
    )


for _width, _params, _macs, _top1, _top5 in _WIDTHS:
    _name = "mobilenetv2" if _width == 1 else f"mobilenetv2_{_width}"
    _file = f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{_width}_224.h5"
    _add(
        _name,
        _width,
        _params,
        _macs,
        {},
        preprocessing="tf",
        application=Application("MobileNetV2", _file, arguments={"alpha": _width}),
        top1=_top1,
        top5=_top5,
    )
    if _width in _TORCH:
        _add(
            f"{_name}.torch",
            _width,
            _params,
            _macs,
            {"norm_epsilon": 1e-5, "padding": "symmetric"},
            preprocessing="torch",
            torch=_TORCH[_width][0],
            top1=_TORCH[_width][1],
            top5=_TORCH[_width][2],
        )
