"""EfficientNet (Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019).

Table 1, scaled in width and depth (section 3.3, and the reference implementation for the coefficients of B1 to B7).
Squeeze-and-excitation has a quarter of a block's input channels. `drop_path` is the paper's stochastic depth.

The plain rows are keras.applications', without the Normalization layer that it has in the model: pixels are normalised
by ImageNet's mean and deviation, as its weights ask for. The rows `.torch` are torchvision's, with symmetric padding,
and timm's where the two agree; where they do not (epsilon, pixels), timm's are the rows `.timm`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from keras import KerasTensor

from kcnn.models.mobilenet_v2 import InvertedResidual
from kcnn.models.spec import Application, DesignValue, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act, make_divisible, squeeze_excite
from kcnn.nn.residual import Block
from kcnn.nn.stages import BlockPosition, block_positions

# Block, channels, layers, stride of the first.
Stage = tuple[Block, int, int, int]


@dataclasses.dataclass(frozen=True)
class MBConv:
    """An inverted residual with squeeze-and-excitation."""

    kernel_size: int
    expansion: int

    def __call__(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the block, float [N, H, W, C] → [N, H / strides, W / strides, channels]."""
        squeeze = partial(squeeze_excite, squeezed_channels=max(1, x.shape[-1] // 4), activation=ops.activation)
        return InvertedResidual(self.expansion, self.kernel_size, squeeze)(x, ops, channels, at)


_TABLE1: tuple[Stage, ...] = (
    (MBConv(3, 1), 16, 1, 1),
    (MBConv(3, 6), 24, 2, 2),
    (MBConv(5, 6), 40, 2, 2),
    (MBConv(3, 6), 80, 3, 2),
    (MBConv(5, 6), 112, 3, 1),
    (MBConv(5, 6), 192, 4, 2),
    (MBConv(3, 6), 320, 1, 1),
)


def scaled(
    table: Sequence[Stage],
    width_coefficient: float,
    depth_coefficient: float,
    rounded: Callable[[float], int] = make_divisible,
) -> tuple[Stage, ...]:
    """Return the stages with `width_coefficient` times the channels and `depth_coefficient` times the layers.

    Args:
        table: the stages of the network with the coefficients 1.
        width_coefficient: above 0; channels are `rounded`.
        depth_coefficient: above 0; layers are rounded up.
        rounded: channels as a number → as a whole number.
    """
    return tuple(
        (block, rounded(channels * width_coefficient), math.ceil(layers * depth_coefficient), strides)
        for block, channels, layers, strides in table
    )


def features(x: KerasTensor, ops: Ops, *, stem: int, stages: Sequence[Stage], last: int) -> KerasTensor:
    """Build a 3x3 convolution at stride 2, the stages, and a 1x1 convolution; output stride 32.

    Args:
        x: float [N, H, W, 3].
        ops: the operations.
        stem: channels of the first convolution.
        stages: the blocks.
        last: channels of the last convolution.
    """
    x = conv_norm_act(x, ops, stem, 3, strides=2, name="stem_conv")
    blocks, channels, layers, strides = zip(*stages, strict=True)
    for at in block_positions(layers, strides, drop_path=ops.drop_path):
        x = blocks[at.stage - 1](x, ops, channels[at.stage - 1], at)
    return conv_norm_act(x, ops, last, 1, name=f"stage{len(stages) + 1}_conv")


@dataclasses.dataclass(frozen=True)
class EfficientNet:
    """One network of either generation, built by `features`.

    Attributes:
        stem: channels of the first convolution.
        stages: the blocks.
        last: channels of the last convolution.
        input_size: height and width in pixels.
        dropout: rate in the head.
        params: trainable parameters with 1000 classes.
        macs: multiply-adds of one image.
    """

    stem: int
    stages: tuple[Stage, ...]
    last: int
    input_size: int
    dropout: float
    params: int
    macs: int

    def row(self, name: str, *, design: Mapping[str, DesignValue], **fields: Any) -> ModelSpec:
        """Return a row with this network; `design` adds to what all of them have."""
        return ModelSpec(
            name,
            features=partial(features, stem=self.stem, stages=self.stages, last=self.last),
            input_size=self.input_size,
            min_size=32,
            params=self.params,
            macs=self.macs,
            design={
                "norm": "batch",
                "bn_momentum": 0.99,
                "activation": "silu",
                "kernel_initializer": "he_normal",
                "dropout": self.dropout,
                "dropconnect": 0.0,
                "drop_path": 0.2,
                **design,
            },
            **fields,
        )


def _network(width: float, depth: float, input_size: int, dropout: float, params: int, macs: int) -> EfficientNet:
    stages = scaled(_TABLE1, width, depth)
    return EfficientNet(
        make_divisible(32 * width), stages, make_divisible(1280 * width), input_size, dropout, params, macs
    )


# Coefficients of width and depth, input size, dropout, parameters, multiply-adds
_B0 = _network(1.0, 1.0, 224, 0.2, 5_288_548, 385_814_752)
_B1 = _network(1.0, 1.1, 240, 0.2, 7_794_184, 686_802_832)
_B2 = _network(1.1, 1.2, 260, 0.3, 9_109_994, 993_561_872)
_B3 = _network(1.2, 1.4, 300, 0.3, 12_233_232, 1_827_141_392)
_B4 = _network(1.4, 1.8, 380, 0.4, 19_341_616, 4_393_771_024)
_B5 = _network(1.6, 2.2, 456, 0.4, 30_389_784, 10_266_384_752)
_B6 = _network(1.8, 2.6, 528, 0.5, 43_040_704, 19_067_593_536)
_B7 = _network(2.0, 3.1, 600, 0.5, 66_347_960, 37_745_884_192)

_FAMILY: dict[str, Any] = {
    "family": "efficientnet",
    "paper": "Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019, "
    "arXiv:1905.11946",
    "year": 2019,
}


def _keras(name: str, network: EfficientNet, md5: str, top1: float, top5: float) -> ModelSpec:
    variant = name.removeprefix("efficientnet")
    file = f"https://storage.googleapis.com/keras-applications/{name}.h5"
    return network.row(
        name,
        **_FAMILY,
        preprocessing="torch",
        design={},
        application=Application(f"EfficientNet{variant.upper()}", file, file_hash=md5),
        torch={"timm": f"tf_efficientnet_{variant}"},
        top1=top1,
        top5=top5,
        note="timm's weights of adversarial training (.ap) take pixels in -1...1 instead.",
    )


def _torch(
    name: str,
    network: EfficientNet,
    projects: Sequence[str],
    preprocessing: str,
    epsilon: float,
    top1: float | None = None,
    top5: float | None = None,
) -> ModelSpec:
    twin = name.partition(".")[0].replace("efficientnet", "efficientnet_")
    return network.row(
        name,
        **_FAMILY,
        preprocessing=preprocessing,
        design={"norm_epsilon": epsilon, "padding": "symmetric"},
        torch=dict.fromkeys(projects, twin),
        top1=top1,
        top5=top5,
    )


_BOTH = ("torchvision", "timm")
register(
    # network, md5 and accuracy of keras.applications' weights
    _keras("efficientnetb0", _B0, "902e53a9f72be733fc0bcb005b3ebbac", 77.1, 93.3),
    _keras("efficientnetb1", _B1, "1d254153d4ab51201f1646940f018540", 79.1, 94.4),
    _keras("efficientnetb2", _B2, "b15cce36ff4dcbd00b6dd88e7857a6ad", 80.1, 94.9),
    _keras("efficientnetb3", _B3, "ffd1fdc53d0ce67064dc6a9c7960ede0", 81.6, 95.7),
    _keras("efficientnetb4", _B4, "18c95ad55216b8f92d7e70b3a046e2fc", 82.9, 96.4),
    _keras("efficientnetb5", _B5, "ace28f2a6363774853a83a0b21b9421a", 83.6, 96.7),
    _keras("efficientnetb6", _B6, "165f6e37dce68623721b423839de8be5", 84.0, 96.8),
    _keras("efficientnetb7", _B7, "8c03f828fec3ef71311cd463b6759d99", 84.3, 97.0),
    # network, projects that have it, pixels, epsilon, accuracy of torchvision's first weights
    _torch("efficientnetb0.torch", _B0, _BOTH, "torch", 1e-5, 77.69, 93.53),
    _torch("efficientnetb1.torch", _B1, ("torchvision",), "torch", 1e-5, 78.64, 94.19),
    _torch("efficientnetb2.torch", _B2, _BOTH, "torch", 1e-5, 80.61, 95.31),
    _torch("efficientnetb3.torch", _B3, _BOTH, "torch", 1e-5, 82.01, 96.05),
    _torch("efficientnetb4.torch", _B4, _BOTH, "torch", 1e-5, 83.38, 96.59),
    _torch("efficientnetb5.torch", _B5, ("torchvision",), "torch", 1e-3, 83.44, 96.63),
    _torch("efficientnetb6.torch", _B6, ("torchvision",), "torch", 1e-3, 84.01, 96.92),
    _torch("efficientnetb7.torch", _B7, ("torchvision",), "torch", 1e-3, 84.12, 96.91),
    # Where timm's is another network: the same, but accuracy of timm's weights
    _torch("efficientnetb1.timm", _B1, ("timm",), "tf", 1e-5, 80.41, 95.15),
    _torch("efficientnetb5.timm", _B5, ("timm",), "torch", 1e-5, 85.89, 97.74),
    _torch("efficientnetb6.timm", _B6, ("timm",), "torch", 1e-5),
    _torch("efficientnetb7.timm", _B7, ("timm",), "torch", 1e-5),
)
