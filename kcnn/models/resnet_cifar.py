"""ResNets for CIFAR (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Section 4.2: a 3x3 convolution and three stages of basic blocks, on images of 32x32; shortcuts of option A.
"""

from functools import partial

from keras import KerasTensor

from kcnn.models.resnet import DESIGN, PAPER, features
from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act
from kcnn.nn.residual import BasicBlock


def _stem(x: KerasTensor, ops: Ops) -> KerasTensor:
    return conv_norm_act(x, ops, 16, 3, name="stem_conv")


_features = partial(features, block=BasicBlock(), stem=_stem, channels=(16, 32, 64), strides=(1, 2, 2))


def _row(name: str, depth: int, params: int, macs: int) -> ModelSpec:
    return ModelSpec(
        name,
        family="resnet_cifar",
        features=partial(_features, depths=3 * ((depth - 2) // 6,)),
        paper=PAPER,
        year=2015,
        input_size=32,
        min_size=8,
        params=params,
        macs=macs,
        preprocessing="torch",
        design={**DESIGN, "shortcut": "A"},
        note="With 10 classes, as in the paper, 64,350 parameters fewer.",
    )


# Table 6: depth, parameters with 1000 classes, multiply-adds
register(
    _row("resnet20_cifar", 20, 334_072, 40_614_400),
    _row("resnet32_cifar", 32, 528_504, 68_925_952),
    _row("resnet44_cifar", 44, 722_936, 97_237_504),
    _row("resnet56_cifar", 56, 917_368, 125_549_056),
    _row("resnet110_cifar", 110, 1_792_312, 252_951_040),
)
