"""EfficientNetV2 (Tan & Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021).

Table 4 (S) and the reference implementation (google/automl) for M, L and B0 to B3, which scale B0 in width and depth.

The plain rows are keras.applications'. The rows `.tf` differ in the pixels that timm's weights from TensorFlow take;
`.torch` are torchvision's, with symmetric padding; `.timm` are timm's own, with an epsilon of 1e-5 besides.
"""

from collections.abc import Mapping
from typing import Any

from kcnn.models.efficientnet import Stage, mbconv, scaled, spec
from kcnn.models.spec import MODELS, Application
from kcnn.nn.blocks import Ops, conv_norm, conv_norm_act


def _fused(
    x: Any, ops: Ops, channels: int, *, kernel_size: int, expansion: int, strides: int, depth: float, name: str
) -> Any:
    """Figure 2, Fused-MBConv: expansion and depthwise convolution in one; without expansion, one convolution in all."""
    shortcut, width = x, x.shape[-1]
    x = conv_norm_act(
        x, ops, expansion * width if expansion > 1 else channels, kernel_size, strides=strides, name=f"{name}_fused"
    )
    if expansion > 1:
        x = conv_norm(x, ops, channels, 1, name=f"{name}_project")
    return ops.residual(shortcut, x, depth=depth, name=name) if strides == 1 and width == channels else x


def _rounded(channels: float) -> int:
    """The nearest multiple of 8: unlike in V1, however far below."""
    return int(channels / 8 + 0.5) * 8


_B0: tuple[Stage, ...] = (
    (_fused, 3, 1, 16, 1, 1),
    (_fused, 3, 4, 32, 2, 2),
    (_fused, 3, 4, 48, 2, 2),
    (mbconv, 3, 4, 96, 3, 2),
    (mbconv, 3, 6, 112, 5, 1),
    (mbconv, 3, 6, 192, 8, 2),
)
_S: tuple[Stage, ...] = (
    (_fused, 3, 1, 24, 2, 1),
    (_fused, 3, 4, 48, 4, 2),
    (_fused, 3, 4, 64, 4, 2),
    (mbconv, 3, 4, 128, 6, 2),
    (mbconv, 3, 6, 160, 9, 1),
    (mbconv, 3, 6, 256, 15, 2),
)
_M: tuple[Stage, ...] = (
    (_fused, 3, 1, 24, 3, 1),
    (_fused, 3, 4, 48, 5, 2),
    (_fused, 3, 4, 80, 5, 2),
    (mbconv, 3, 4, 160, 7, 2),
    (mbconv, 3, 6, 176, 14, 1),
    (mbconv, 3, 6, 304, 18, 2),
    (mbconv, 3, 6, 512, 5, 1),
)
_L: tuple[Stage, ...] = (
    (_fused, 3, 1, 32, 4, 1),
    (_fused, 3, 4, 64, 7, 2),
    (_fused, 3, 4, 96, 7, 2),
    (mbconv, 3, 4, 192, 10, 2),
    (mbconv, 3, 6, 224, 19, 1),
    (mbconv, 3, 6, 384, 25, 2),
    (mbconv, 3, 6, 640, 7, 1),
)
_VARIANTS: tuple[tuple[Any, ...], ...] = (
    # name, stem, stages, width, depth, input size, dropout, parameters, multiply-adds,
    # md5 and accuracy of keras.applications' weights
    ("b0", 32, _B0, 1.0, 1.0, 224, 0.2, 7_139_704, 718_086_176, "21ecbf6da12460d5c40bb2f29ceb2188", 78.7, 94.3),
    ("b1", 32, _B0, 1.0, 1.1, 240, 0.2, 8_141_052, 1_196_819_360, "069f0534ff22adf035c89e2d9547a9dc", 79.8, 95.0),
    ("b2", 32, _B0, 1.1, 1.2, 260, 0.3, 10_096_086, 1_697_542_832, "424e49f28180edbde1e94797771950a7", 80.5, 95.1),
    ("b3", 32, _B0, 1.2, 1.4, 300, 0.3, 14_358_406, 3_011_458_816, "1f1fc43bd98a6e4fd8fdfd551e02c7a0", 82.0, 95.8),
    ("s", 24, _S, 1.0, 1.0, 384, 0.2, 21_458_488, 8_365_617_152, "e1d88a8495beba45748fedd0cecbe016", 83.9, 96.7),
    ("m", 24, _M, 1.0, 1.0, 480, 0.3, 54_139_356, 24_582_460_384, "a3bf6aa3276309f4fc6a34aa114c95cd", 85.3, 97.4),
    ("l", 32, _L, 1.0, 1.0, 480, 0.4, 118_515_272, 56_079_699_008, "27e6d408b53c7ebc868fefa357689935", 85.7, 97.5),
)
_SAME = {"norm_epsilon": 1e-3, "padding": "same"}
_TORCHVISION = {"norm_epsilon": 1e-3, "padding": "symmetric"}
_TIMM = {"norm_epsilon": 1e-5, "padding": "symmetric"}
_ELSEWHERE: tuple[tuple[Any, ...], ...] = (
    # variant, rest of the name, preprocessing, design, its name in torchvision or timm, accuracy of its weights
    ("b3", ".tf", "tf", _SAME, "tf_efficientnetv2_b3", 82.67, 96.63),
    ("s", ".tf", "tf", _SAME, "tf_efficientnetv2_s", 84.29, 97.25),
    ("s", ".torch", "torch", _TORCHVISION, "efficientnet_v2_s", 84.23, 96.88),
    ("s", ".timm", "torch", _TIMM, "efficientnetv2_s", None, None),
    ("m", ".tf", "tf", _SAME, "tf_efficientnetv2_m", 86.00, 97.95),
    ("m", ".torch", "torch", _TORCHVISION, "efficientnet_v2_m", 85.11, 97.16),
    ("m", ".timm", "torch", _TIMM, "efficientnetv2_m", None, None),
    ("l", ".tf", "tf", _SAME, "tf_efficientnetv2_l", 86.80, 98.14),
    ("l", ".torch", "tf", _TORCHVISION, "efficientnet_v2_l", 85.81, 97.79),
    ("l", ".timm", "torch", _TIMM, "efficientnetv2_l", None, None),
)


def _add(rest: str, row: tuple[Any, ...], preprocessing: str, design: Mapping[str, Any], **fields: Any) -> None:
    """A row of `_VARIANTS`, called `rest` besides."""
    variant, stem, table, width, depth, size, dropout, params, macs = row
    name = f"efficientnetv2{variant}{rest}"
    MODELS.add(
        name,
        spec(
            name,
            family="efficientnetv2",
            stem=_rounded(stem * width),
            stages=scaled(table, width, depth, _rounded),
            last=_rounded(1280 * width),
            paper="Tan & Le, EfficientNetV2: Smaller Models and Faster Training, ICML 2021, arXiv:2104.00298",
            year=2021,
            input_size=size,
            params=params,
            macs=macs,
            preprocessing=preprocessing,
            dropout=dropout,
            design=design,
            **fields,
        ),
    )


for *_row, _md5, _top1, _top5 in _VARIANTS:
    _variant = _row[0]
    _add(
        "",
        tuple(_row),
        "tf128" if _variant in ("s", "m", "l") else "torch",
        {},
        application=Application(
            f"EfficientNetV2{_variant.upper()}",
            f"efficientnet_v2/efficientnetv2-{_variant}.h5",
            file_hash=_md5,
        ),
        torch={"timm": f"tf_efficientnetv2_{_variant}"} if _variant in ("b0", "b1", "b2") else {},
        top1=_top1,
        top5=_top5,
    )
_ROWS = {row[0]: tuple(row[:-3]) for row in _VARIANTS}
for _variant, _rest, _preprocessing, _design, _name, _top1, _top5 in _ELSEWHERE:
    _add(
        _rest,
        _ROWS[_variant],
        _preprocessing,
        _design,
        torch={"torchvision" if _design is _TORCHVISION else "timm": _name},
        top1=_top1,
        top5=_top5,
    )
