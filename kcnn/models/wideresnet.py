"""Wide residual networks (Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016).

WRN-28-10 and WRN-40-4 for CIFAR: table 1 with pre-activation blocks B(3,3), `block_dropout=` between the convolutions
(section 2.4; the paper's is 0.3). WRN-50-2 and WRN-101-2 for ImageNet (section 3.4) are torchvision's: ResNets whose
3x3 convolutions have twice the channels.
"""

from functools import partial

from keras import KerasTensor

from kcnn.models import resnet, resnet_v2
from kcnn.models.resnet import DEPTHS, DESIGN
from kcnn.models.resnet_v2 import PreActivationBasic
from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops
from kcnn.nn.residual import BottleneckBlock


def _stem(x: KerasTensor, ops: Ops) -> KerasTensor:
    return ops.conv(x, 16, 3, name="stem_conv")


def features(
    x: KerasTensor, ops: Ops, *, depth: int, widening: int, block_dropout: float, shortcut: str
) -> KerasTensor:
    """Build a 3x3 convolution, and three stages of (depth - 4) / 6 blocks with `widening` times 16, 32, 64 channels.

    Args:
        x: float [N, H, W, 3].
        ops: the operations.
        depth: convolutions in all.
        widening: the paper's k.
        block_dropout: rate between the convolutions of a block.
        shortcut: "A", "B" or "C".
    """
    return resnet_v2.features(
        x,
        ops,
        stem=_stem,
        block=PreActivationBasic(block_dropout=block_dropout),
        depths=3 * ((depth - 4) // 6,),
        channels=(16 * widening, 32 * widening, 64 * widening),
        strides=(1, 2, 2),
        shortcut=shortcut,
    )


_row = partial(
    ModelSpec,
    family="wideresnet",
    paper="Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016, arXiv:1605.07146",
    year=2016,
    preprocessing="torch",
)


def _cifar(name: str, depth: int, widening: int, params: int, macs: int) -> ModelSpec:
    return _row(
        name,
        features=partial(features, depth=depth, widening=widening),
        input_size=32,
        min_size=8,
        params=params,
        macs=macs,
        design={**DESIGN, "shortcut": "B", "block_dropout": 0.0},
        note=f"With 10 classes, as in the paper, {990 * (64 * widening + 1):,} parameters fewer.",
    )


def _imagenet(name: str, depth: int, params: int, macs: int, top1: float, top5: float) -> ModelSpec:
    twin = f"wide_resnet{depth}_2"
    return _row(
        name,
        features=partial(resnet.features, block=BottleneckBlock(width=128), depths=DEPTHS[depth]),
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        design=DESIGN,
        torch={"torchvision": twin, "timm": twin},
        top1=top1,
        top5=top5,
    )


register(
    # depth, widening, parameters with 1000 classes, multiply-adds
    _cifar("wideresnet28_10", 28, 10, 37_113_784, 5_243_962_368),
    _cifar("wideresnet40_4", 40, 4, 9_203_640, 1_298_835_456),
    # depth, parameters, multiply-adds, top-1, top-5 of torchvision's first weights
    _imagenet("wideresnet50_2", 50, 68_883_240, 11_398_021_120, 78.5, 94.1),
    _imagenet("wideresnet101_2", 101, 126_886_696, 22_753_050_624, 78.8, 94.3),
)
