"""EfficientNet (Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019).

Table 1, scaled in width and depth (section 3.3, and the reference implementation for the coefficients of B1 to B7).
Squeeze-and-excitation has a quarter of a block's input channels. `drop_path` is the paper's stochastic depth.

The plain rows are keras.applications', without the Normalization layer that it has in the model: pixels are normalised
by ImageNet's mean and deviation, as its weights ask for. The rows `.torch` are torchvision's, with symmetric padding,
and timm's where the two agree; where they do not (epsilon, pixels), timm's are the rows `.timm`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from kcnn.models.mobilenet_v2 import inverted_residual
from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act, make_divisible, squeeze_excite

# A stage: (block, kernel, expansion, channels, layers, stride of the first).
Stage = tuple[Callable[..., Any], int, int, int, int, int]


def mbconv(
    x: Any, ops: Ops, channels: int, *, kernel_size: int, expansion: int, strides: int, depth: float, name: str
) -> Any:
    """MBConv: an inverted residual with squeeze-and-excitation."""
    return inverted_residual(
        x,
        ops,
        channels,
        expansion=expansion,
        strides=strides,
        depth=depth,
        name=name,
        kernel_size=kernel_size,
        squeeze=partial(squeeze_excite, squeezed_channels=max(1, x.shape[-1] // 4), activation=ops.activation),
    )


_TABLE1: tuple[Stage, ...] = (
    (mbconv, 3, 1, 16, 1, 1),
    (mbconv, 3, 6, 24, 2, 2),
    (mbconv, 5, 6, 40, 2, 2),
    (mbconv, 3, 6, 80, 3, 2),
    (mbconv, 5, 6, 112, 3, 1),
    (mbconv, 5, 6, 192, 4, 2),
    (mbconv, 3, 6, 320, 1, 1),
)
_VARIANTS: tuple[tuple[Any, ...], ...] = (
    # name, width, depth, input size, dropout, parameters, multiply-adds,
    # md5 and accuracy of keras.applications' weights
    ("b0", 1.0, 1.0, 224, 0.2, 5_288_548, 385_814_752, "902e53a9f72be733fc0bcb005b3ebbac", 77.1, 93.3),
    ("b1", 1.0, 1.1, 240, 0.2, 7_794_184, 686_802_832, "1d254153d4ab51201f1646940f018540", 79.1, 94.4),
    ("b2", 1.1, 1.2, 260, 0.3, 9_109_994, 993_561_872, "b15cce36ff4dcbd00b6dd88e7857a6ad", 80.1, 94.9),
    ("b3", 1.2, 1.4, 300, 0.3, 12_233_232, 1_827_141_392, "ffd1fdc53d0ce67064dc6a9c7960ede0", 81.6, 95.7),
    ("b4", 1.4, 1.8, 380, 0.4, 19_341_616, 4_393_771_024, "18c95ad55216b8f92d7e70b3a046e2fc", 82.9, 96.4),
    ("b5", 1.6, 2.2, 456, 0.4, 30_389_784, 10_266_384_752, "ace28f2a6363774853a83a0b21b9421a", 83.6, 96.7),
    ("b6", 1.8, 2.6, 528, 0.5, 43_040_704, 19_067_593_536, "165f6e37dce68623721b423839de8be5", 84.0, 96.8),
    ("b7", 2.0, 3.1, 600, 0.5, 66_347_960, 37_745_884_192, "8c03f828fec3ef71311cd463b6759d99", 84.3, 97.0),
)
_TORCHVISION = {
    # epsilon, and accuracy of torchvision's first weights
    "b0": (1e-5, 77.69, 93.53),
    "b1": (1e-5, 78.64, 94.19),
    "b2": (1e-5, 80.61, 95.31),
    "b3": (1e-5, 82.01, 96.05),
    "b4": (1e-5, 83.38, 96.59),
    "b5": (1e-3, 83.44, 96.63),
    "b6": (1e-3, 84.01, 96.92),
    "b7": (1e-3, 84.12, 96.91),
}
_TIMM = {
    # Where timm's is another network, with epsilon 1e-5 throughout: preprocessing and accuracy of its weights.
    "b1": ("tf", 80.41, 95.15),
    "b5": ("torch", 85.89, 97.74),
    "b6": ("torch", None, None),
    "b7": ("torch", None, None),
}


def scaled(
    table: Iterable[Stage], width: float, depth: float, rounded: Callable[[float], int] = make_divisible
) -> tuple[Stage, ...]:
    """The stages with `width` times the channels and `depth` times the layers, rounded up."""
    return tuple(
        (block, kernel_size, expansion, rounded(channels * width), math.ceil(layers * depth), strides)
        for block, kernel_size, expansion, channels, layers, strides in table
    )


def features(x: Any, ops: Ops, *, stem: int, stages: tuple[Stage, ...], last: int) -> Any:
    """A 3x3 convolution of `stem` channels at stride 2, the stages, a 1x1 convolution of `last`; output stride 32."""
    x = conv_norm_act(x, ops, stem, 3, strides=2, name="stem_conv")
    total, count = sum(layers for *_, layers, _ in stages), 0
    for stage, (block, kernel_size, expansion, channels, layers, strides) in enumerate(stages, start=1):
        for index in range(1, layers + 1):
            count += 1
            x = block(
                x,
                ops,
                channels,
                kernel_size=kernel_size,
                expansion=expansion,
                strides=strides if index == 1 else 1,
                depth=count / total,
                name=f"stage{stage}_block{index}",
            )
    return conv_norm_act(x, ops, last, 1, name=f"stage{len(stages) + 1}_conv")


def spec(
    name: str, *, stem: int, stages: tuple[Stage, ...], last: int, dropout: float, design: Mapping[str, Any], **row: Any
) -> ModelSpec:
    """A row of either generation, built by `features`; `design` beside what all of them have."""
    return ModelSpec(
        name=name,
        features=partial(features, stem=stem, stages=stages, last=last),
        min_size=32,
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "activation": "silu",
            "kernel_initializer": "he_normal",
            "dropout": dropout,
            "drop_path": 0.2,
            **design,
        },
        **row,
    )


def _add(rest: str, row: tuple[Any, ...], preprocessing: str, design: Mapping[str, Any], **fields: Any) -> None:
    """A row of `_VARIANTS`, called `rest` besides."""
    variant, width, depth, size, dropout, params, macs = row
    name = f"efficientnet{variant}{rest}"
    MODELS.add(
        name,
        spec(
            name,
            family="efficientnet",
            stem=make_divisible(32 * width),
            stages=scaled(_TABLE1, width, depth),
            last=make_divisible(1280 * width),
            paper="Tan & Le, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, ICML 2019, "
            "arXiv:1905.11946",
            year=2019,
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
        "torch",
        {},
        application=Application(
            f"EfficientNet{_variant.upper()}",
            f"https://storage.googleapis.com/keras-applications/efficientnet{_variant}.h5",
            file_hash=_md5,
        ),
        torch={"timm": f"tf_efficientnet_{_variant}"},
        top1=_top1,
        top5=_top5,
        note="timm's weights of adversarial training (.ap) take pixels in -1...1 instead.",
    )
    _epsilon, _top1, _top5 = _TORCHVISION[_variant]
    _torch = {"torchvision": f"efficientnet_{_variant}", "timm": f"efficientnet_{_variant}"}
    if _variant in _TIMM:
        _preprocessing, _timm_top1, _timm_top5 = _TIMM[_variant]
        _add(
            ".timm",
            tuple(_row),
            _preprocessing,
            {"norm_epsilon": 1e-5, "padding": "symmetric"},
            torch={"timm": _torch.pop("timm")},
            top1=_timm_top1,
            top5=_timm_top5,
        )
    _add(
        ".torch",
        tuple(_row),
        "torch",
        {"norm_epsilon": _epsilon, "padding": "symmetric"},
        torch=_torch,
        top1=_top1,
        top5=_top5,
    )
