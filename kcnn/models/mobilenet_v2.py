"""MobileNetV2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018).

Table 2, at any width multiplier (`width=`). As in the reference implementation and keras.applications, channels are
rounded to multiples of 8, and the last convolution keeps its 1280 channels below width 1. Batch norm's momentum is
0.99, not 0.999 as there (see `Ops`).

The rows `.torch` are torchvision's and timm's: symmetric padding, epsilon 1e-5, and pixels normalised by mean and
deviation.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

from keras import KerasTensor

from kcnn.models.spec import Application, DesignValue, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm, conv_norm_act, depthwise_norm_act, make_divisible
from kcnn.nn.stages import BlockPosition, block_positions

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


@dataclasses.dataclass(frozen=True)
class InvertedResidual:
    """1x1 expansion, depthwise convolution, 1x1 linear projection; a shortcut where the shapes agree (table 1).

    Attributes:
        expansion: channels of the depthwise convolution over those of the input; 1 for no 1x1 convolution before it.
        kernel_size: of the depthwise convolution.
        squeeze: squeeze and excitation after it, if any: (x, ops, *, name) → x.
    """

    expansion: float
    kernel_size: int = 3
    squeeze: Callable[..., KerasTensor] | None = None

    def __call__(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the block, float [N, H, W, C] → [N, H / strides, W / strides, channels]."""
        shortcut, width = x, x.shape[-1]
        if self.expansion != 1:
            x = conv_norm_act(x, ops, make_divisible(self.expansion * width), 1, name=f"{at.name}_expand")
        x = depthwise_norm_act(x, ops, self.kernel_size, strides=at.strides, name=f"{at.name}_depthwise")
        if self.squeeze:
            x = self.squeeze(x, ops, name=f"{at.name}_se")
        x = conv_norm(x, ops, channels, 1, name=f"{at.name}_project")
        if at.strides > 1 or width != channels:
            return x
        return ops.residual(shortcut, x, drop_rate=at.drop_rate, name=at.name)


def features(x: KerasTensor, ops: Ops, *, width: float) -> KerasTensor:
    """Build a 3x3 convolution at stride 2, seven stages of inverted residuals, a 1x1 convolution; output stride 32."""
    x = conv_norm_act(x, ops, make_divisible(32 * width), 3, strides=2, name="stem_conv")
    expansions, channels, repeats, strides = zip(*_TABLE2, strict=True)
    for at in block_positions(repeats, strides, drop_path=ops.drop_path):
        block = InvertedResidual(expansions[at.stage - 1])
        x = block(x, ops, make_divisible(int(channels[at.stage - 1] * width)), at)
    return conv_norm_act(x, ops, make_divisible(1280 * max(1.0, width)), 1, name="stage8_conv")


def _design(width: float, **more: DesignValue) -> Mapping[str, DesignValue]:
    return {
        "width": width,
        "norm": "batch",
        "bn_momentum": 0.99,
        "activation": "relu6",
        "kernel_initializer": "he_normal",
        "dropout": 0.2,
        "dropconnect": 0.0,
        "drop_path": 0.0,
        **more,
    }


_row = partial(
    ModelSpec,
    family="mobilenetv2",
    features=features,
    paper="Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, arXiv:1801.04381",
    year=2018,
    input_size=224,
    min_size=32,
    note="The paper has 3.4 M parameters at width 1 and 6.9 M at 1.4; its reference implementation 3.47 M and "
    "6.06 M, which are these without batch norm's.",
)


def _keras(name: str, width: float, params: int, macs: int, top1: float, top5: float) -> ModelSpec:
    file = f"mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224.h5"
    return _row(
        name,
        params=params,
        macs=macs,
        preprocessing="tf",
        design=_design(width),
        application=Application("MobileNetV2", file, arguments={"alpha": width}),
        top1=top1,
        top5=top5,
    )


def _torch(
    name: str,
    width: float,
    params: int,
    macs: int,
    torch: Mapping[str, str],
    top1: float | None = None,
    top5: float | None = None,
) -> ModelSpec:
    return _row(
        name,
        params=params,
        macs=macs,
        preprocessing="torch",
        design=_design(width, norm_epsilon=1e-5, padding="symmetric"),
        torch=torch,
        top1=top1,
        top5=top5,
    )


_BOTH = {"torchvision": "mobilenet_v2", "timm": "mobilenetv2_100"}
register(
    # width, parameters, multiply-adds, top-1 and top-5 (keras.io for width 1; the reference implementation's README)
    _keras("mobilenetv2", 1.0, 3_504_872, 300_774_272, 71.3, 90.1),
    _keras("mobilenetv2_0.35", 0.35, 1_677_128, 59_285_808, 60.3, 82.9),
    _keras("mobilenetv2_0.5", 0.5, 1_968_680, 97_131_840, 65.4, 86.4),
    _keras("mobilenetv2_0.75", 0.75, 2_636_424, 209_069_792, 69.8, 89.6),
    _keras("mobilenetv2_1.3", 1.3, 5_386_792, 509_374_560, 74.4, 92.1),
    _keras("mobilenetv2_1.4", 1.4, 6_108_776, 582_195_824, 75.0, 92.5),
    # width, parameters, multiply-adds, names, top-1 and top-5 (torchvision's first weights for width 1; timm's results)
    _torch("mobilenetv2.torch", 1.0, 3_504_872, 300_774_272, _BOTH, 71.88, 90.29),
    _torch("mobilenetv2_0.35.torch", 0.35, 1_677_128, 59_285_808, {"timm": "mobilenetv2_035"}),
    _torch("mobilenetv2_0.5.torch", 0.5, 1_968_680, 97_131_840, {"timm": "mobilenetv2_050"}, 65.95, 86.09),
    _torch("mobilenetv2_0.75.torch", 0.75, 2_636_424, 209_069_792, {"timm": "mobilenetv2_075"}),
    _torch("mobilenetv2_1.4.torch", 1.4, 6_108_776, 582_195_824, {"timm": "mobilenetv2_140"}, 76.52, 92.99),
)
