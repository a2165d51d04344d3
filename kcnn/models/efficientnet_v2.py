"""EfficientNetV2 (Tan & Le, "EfficientNetV2: Smaller Models and Faster Training", ICML 2021).

Table 4 (S) and the reference implementation (google/automl) for M, L and B0 to B3, which scale B0 in width and depth.

The plain rows are keras.applications'. The rows `.tf` differ in the pixels that timm's weights from TensorFlow take;
`.torch` are torchvision's, with symmetric padding; `.timm` are timm's own, with an epsilon of 1e-5 besides.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras import KerasTensor

from kcnn.models.efficientnet import EfficientNet, MBConv, Stage, scaled
from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm, conv_norm_act
from kcnn.nn.stages import BlockPosition


@dataclasses.dataclass(frozen=True)
class FusedMBConv:
    """Figure 2: expansion and depthwise convolution in one; without expansion, one convolution in all."""

    kernel_size: int
    expansion: int

    def __call__(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the block, float [N, H, W, C] → [N, H / strides, W / strides, channels]."""
        shortcut, width = x, x.shape[-1]
        fused = self.expansion * width if self.expansion > 1 else channels
        x = conv_norm_act(x, ops, fused, self.kernel_size, strides=at.strides, name=f"{at.name}_fused")
        if self.expansion > 1:
            x = conv_norm(x, ops, channels, 1, name=f"{at.name}_project")
        if at.strides > 1 or width != channels:
            return x
        return ops.residual(shortcut, x, drop_rate=at.drop_rate, name=at.name)


def _rounded(channels: float) -> int:
    """Return the nearest multiple of 8: unlike in V1, however far below."""
    return int(channels / 8 + 0.5) * 8


_B0_STAGES: tuple[Stage, ...] = (
    (FusedMBConv(3, 1), 16, 1, 1),
    (FusedMBConv(3, 4), 32, 2, 2),
    (FusedMBConv(3, 4), 48, 2, 2),
    (MBConv(3, 4), 96, 3, 2),
    (MBConv(3, 6), 112, 5, 1),
    (MBConv(3, 6), 192, 8, 2),
)
_S_STAGES: tuple[Stage, ...] = (
    (FusedMBConv(3, 1), 24, 2, 1),
    (FusedMBConv(3, 4), 48, 4, 2),
    (FusedMBConv(3, 4), 64, 4, 2),
    (MBConv(3, 4), 128, 6, 2),
    (MBConv(3, 6), 160, 9, 1),
    (MBConv(3, 6), 256, 15, 2),
)
_M_STAGES: tuple[Stage, ...] = (
    (FusedMBConv(3, 1), 24, 3, 1),
    (FusedMBConv(3, 4), 48, 5, 2),
    (FusedMBConv(3, 4), 80, 5, 2),
    (MBConv(3, 4), 160, 7, 2),
    (MBConv(3, 6), 176, 14, 1),
    (MBConv(3, 6), 304, 18, 2),
    (MBConv(3, 6), 512, 5, 1),
)
_L_STAGES: tuple[Stage, ...] = (
    (FusedMBConv(3, 1), 32, 4, 1),
    (FusedMBConv(3, 4), 64, 7, 2),
    (FusedMBConv(3, 4), 96, 7, 2),
    (MBConv(3, 4), 192, 10, 2),
    (MBConv(3, 6), 224, 19, 1),
    (MBConv(3, 6), 384, 25, 2),
    (MBConv(3, 6), 640, 7, 1),
)


def _scaled_b0(width: float, depth: float, input_size: int, dropout: float, params: int, macs: int) -> EfficientNet:
    stages = scaled(_B0_STAGES, width, depth, _rounded)
    return EfficientNet(_rounded(32 * width), stages, _rounded(1280 * width), input_size, dropout, params, macs)


# Coefficients of width and depth, input size, dropout, parameters, multiply-adds
_B0 = _scaled_b0(1.0, 1.0, 224, 0.2, 7_139_704, 718_086_176)
_B1 = _scaled_b0(1.0, 1.1, 240, 0.2, 8_141_052, 1_196_819_360)
_B2 = _scaled_b0(1.1, 1.2, 260, 0.3, 10_096_086, 1_697_542_832)
_B3 = _scaled_b0(1.2, 1.4, 300, 0.3, 14_358_406, 3_011_458_816)
# Channels of the stem, stages, channels of the last convolution, input size, dropout, parameters, multiply-adds
_S = EfficientNet(24, _S_STAGES, 1280, 384, 0.2, 21_458_488, 8_365_617_152)
_M = EfficientNet(24, _M_STAGES, 1280, 480, 0.3, 54_139_356, 24_582_460_384)
_L = EfficientNet(32, _L_STAGES, 1280, 480, 0.4, 118_515_272, 56_079_699_008)

_FAMILY: dict[str, Any] = {
    "family": "efficientnetv2",
    "paper": "Tan & Le, EfficientNetV2: Smaller Models and Faster Training, ICML 2021, arXiv:2104.00298",
    "year": 2021,
}
_SAME = {"norm_epsilon": 1e-3, "padding": "same"}
_TORCHVISION = {"norm_epsilon": 1e-3, "padding": "symmetric"}
_TIMM = {"norm_epsilon": 1e-5, "padding": "symmetric"}


def _keras(
    name: str,
    network: EfficientNet,
    preprocessing: str,
    md5: str,
    top1: float,
    top5: float,
    projects: Sequence[str] = (),
) -> ModelSpec:
    variant = name.removeprefix("efficientnetv2")
    return network.row(
        name,
        **_FAMILY,
        preprocessing=preprocessing,
        design={},
        application=Application(
            f"EfficientNetV2{variant.upper()}", f"efficientnet_v2/efficientnetv2-{variant}.h5", file_hash=md5
        ),
        torch=dict.fromkeys(projects, f"tf_efficientnetv2_{variant}"),
        top1=top1,
        top5=top5,
    )


def _torch(
    name: str,
    network: EfficientNet,
    preprocessing: str,
    design: dict[str, Any],
    twin: str,
    top1: float | None = None,
    top5: float | None = None,
) -> ModelSpec:
    return network.row(
        name,
        **_FAMILY,
        preprocessing=preprocessing,
        design=design,
        torch={"torchvision" if design is _TORCHVISION else "timm": twin},
        top1=top1,
        top5=top5,
    )


register(
    # network, pixels, md5 and accuracy of keras.applications' weights, where timm has the same network
    _keras("efficientnetv2b0", _B0, "torch", "21ecbf6da12460d5c40bb2f29ceb2188", 78.7, 94.3, ("timm",)),
    _keras("efficientnetv2b1", _B1, "torch", "069f0534ff22adf035c89e2d9547a9dc", 79.8, 95.0, ("timm",)),
    _keras("efficientnetv2b2", _B2, "torch", "424e49f28180edbde1e94797771950a7", 80.5, 95.1, ("timm",)),
    _keras("efficientnetv2b3", _B3, "torch", "1f1fc43bd98a6e4fd8fdfd551e02c7a0", 82.0, 95.8),
    _keras("efficientnetv2s", _S, "tf128", "e1d88a8495beba45748fedd0cecbe016", 83.9, 96.7),
    _keras("efficientnetv2m", _M, "tf128", "a3bf6aa3276309f4fc6a34aa114c95cd", 85.3, 97.4),
    _keras("efficientnetv2l", _L, "tf128", "27e6d408b53c7ebc868fefa357689935", 85.7, 97.5),
    # network, pixels, design, its name in torchvision or timm, accuracy of its weights
    _torch("efficientnetv2b3.tf", _B3, "tf", _SAME, "tf_efficientnetv2_b3", 82.67, 96.63),
    _torch("efficientnetv2s.tf", _S, "tf", _SAME, "tf_efficientnetv2_s", 84.29, 97.25),
    _torch("efficientnetv2s.torch", _S, "torch", _TORCHVISION, "efficientnet_v2_s", 84.23, 96.88),
    _torch("efficientnetv2s.timm", _S, "torch", _TIMM, "efficientnetv2_s"),
    _torch("efficientnetv2m.tf", _M, "tf", _SAME, "tf_efficientnetv2_m", 86.00, 97.95),
    _torch("efficientnetv2m.torch", _M, "torch", _TORCHVISION, "efficientnet_v2_m", 85.11, 97.16),
    _torch("efficientnetv2m.timm", _M, "torch", _TIMM, "efficientnetv2_m"),
    _torch("efficientnetv2l.tf", _L, "tf", _SAME, "tf_efficientnetv2_l", 86.80, 98.14),
    _torch("efficientnetv2l.torch", _L, "tf", _TORCHVISION, "efficientnet_v2_l", 85.81, 97.79),
    _torch("efficientnetv2l.timm", _L, "torch", _TIMM, "efficientnetv2_l"),
)
