"""Wide residual networks (Zagoruyko & Komodakis, "Wide Residual Networks", BMVC 2016).

WRN-28-10 and WRN-40-4 for CIFAR: table 1 with pre-activation blocks B(3,3), `block_dropout=` between the convolutions
(section 2.4; the paper's is 0.3). WRN-50-2 and WRN-101-2 for ImageNet (section 3.4) are torchvision's: ResNets whose
3x3 convolutions have twice the channels.
"""

from functools import partial
from typing import Any

from kcnn.models import resnet, resnet_v2
from kcnn.models.resnet import DEPTHS, DESIGN
from kcnn.models.spec import MODELS, ModelSpec
from kcnn.nn.blocks import Ops
from kcnn.nn.residual import bottleneck


def _stem(x: Any, ops: Ops) -> Any:
    return ops.conv(x, 16, 3, name="stem_conv")


def features(x: Any, ops: Ops, *, depth: int, widening: int, block_dropout: float, shortcut: str) -> Any:
    """A 3x3 convolution, three stages of (depth - 4) / 6 blocks with `widening` times 16, 32 and 64 channels."""
    return resnet_v2.features(
        x,
        ops,
        stem=_stem,
        block=partial(resnet_v2.basic, block_dropout=block_dropout),
        depths=3 * ((depth - 4) // 6,),
        channels=(16 * widening, 32 * widening, 64 * widening),
        strides=(1, 2, 2),
        shortcut=shortcut,
    )


_PAPER = "Zagoruyko & Komodakis, Wide Residual Networks, BMVC 2016, arXiv:1605.07146"
_CIFAR = (
    # depth, widening, parameters with 1000 classes, multiply-adds
    (28, 10, 37_113_784, 5_243_962_368),
    (40, 4, 9_203_640, 1_298_835_456),
)
_IMAGENET = (
    # depth, parameters, multiply-adds, top-1, top-5 of torchvision's first weights
    (50, 68_883_240, 11_398_021_120, 78.5, 94.1),
    (101, 126_886_696, 22_753_050_624, 78.8, 94.3),
)

for _depth, _widening, _params, _macs in _CIFAR:
    _name = f"wideresnet{_depth}_{_widening}"
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="wideresnet",
            features=partial(features, depth=_depth, widening=_widening),
            paper=_PAPER,
            year=2016,
            input_size=32,
            min_size=8,
            params=_params,
            macs=_macs,
            preprocessing="torch",
            design={**DESIGN, "shortcut": "B", "block_dropout": 0.0},
            note=f"With 10 classes, as in the paper, {990 * (64 * _widening + 1):,} parameters fewer.",
        ),
    )

for _depth, _params, _macs, _top1, _top5 in _IMAGENET:
    _name = f"wideresnet{_depth}_2"
    _twin = f"wide_resnet{_depth}_2"
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="wideresnet",
            features=partial(resnet.features, block=partial(bottleneck, width=128), depths=DEPTHS[_depth]),
            paper=_PAPER,
            year=2016,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="torch",
            design=DESIGN,
            torch={"torchvision": _twin, "timm": _twin},
            top1=_top1,
            top5=_top5,
        ),
    )
