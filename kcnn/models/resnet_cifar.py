"""ResNets for CIFAR (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Section 4.2: a 3x3 convolution and three stages of basic blocks, on images of 32x32; shortcuts of option A.
"""

from functools import partial
from typing import Any

from kcnn.models.resnet import DESIGN, PAPER, features
from kcnn.models.spec import MODELS, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act
from kcnn.nn.residual import basic

_TABLE6 = (
    # depth, parameters with 1000 classes, multiply-adds
    (20, 334_072, 40_614_400),
    (32, 528_504, 68_925_952),
    (44, 722_936, 97_237_504),
    (56, 917_368, 125_549_056),
    (110, 1_792_312, 252_951_040),
)


def _stem(x: Any, ops: Ops) -> Any:
    return conv_norm_act(x, ops, 16, 3, name="stem_conv")


for _depth, _params, _macs in _TABLE6:
    _name, _depths = f"resnet{_depth}_cifar", 3 * ((_depth - 2) // 6,)
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="resnet_cifar",
            features=partial(
                features, block=basic, stem=_stem, depths=_depths, channels=(16, 32, 64), strides=(1, 2, 2)
            ),
            paper=PAPER,
            year=2015,
            input_size=32,
            min_size=8,
            params=_params,
            macs=_macs,
            preprocessing="torch",
            design={**DESIGN, "shortcut": "A"},
            note="With 10 classes, as in the paper, 64,350 parameters fewer.",
        ),
    )
