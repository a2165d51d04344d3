"""ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Table 1, with shortcuts of option B, a projection where the channels change; `shortcut=` chooses A, zeros for the
channels that are new, or C, projections everywhere.

ResNet-50/101/152 are keras.applications', to take its weights. As in the paper, a stage's stride is in its first 1x1
convolution. Deviations: convolutions have biases, which the batch norm behind them makes redundant; epsilon is
1.001e-5.

ResNet-18/34 and `.torch` are torchvision's: no biases, epsilon 1e-5, pixels normalised by mean and deviation; the
stride of a bottleneck is in its 3x3 convolution ("v1.5").
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from kcnn.errors import UserError, nearest
from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act
from kcnn.nn.layers import PadChannels

DEPTHS = {
    # blocks per stage
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
DESIGN = {
    "norm": "batch",
    "bn_momentum": 0.99,
    "norm_epsilon": 1e-5,
    "activation": "relu",
    "kernel_initializer": "he_normal",
    "dropout": 0.0,
    "drop_path": 0.0,
    "padding": "symmetric",
}
_SHORTCUTS = ("A", "B", "C")


def projects(x: Any, channels: int, option: str) -> bool:
    """Whether a shortcut from `x` to `channels` is a projection, by the option of section 4.1.

    Raises:
        UserError: an unknown option.
    """
    if option not in _SHORTCUTS:
        raise UserError(f"shortcut {option!r}: {nearest(str(option), _SHORTCUTS)}")
    return option == "C" or (option == "B" and x.shape[-1] != channels)


def identity(x: Any, channels: int, *, strides: int, name: str) -> Any:
    """A shortcut without parameters: every `strides`-th pixel, zeros for the channels that are new."""
    if strides > 1:
        x = keras.layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)
    return x if x.shape[-1] == channels else PadChannels(channels - x.shape[-1], name=f"{name}_pad")(x)


def _merge(
    x: Any,
    branch: Any,
    ops: Ops,
    *,
    strides: int,
    depth: float,
    name: str,
    shortcut: str,
    excite: Callable[..., Any] | None,
    kernel_size: int = 1,
    use_bias: bool = False,
) -> Any:
    """The end of a block: `excite`, and the shortcut from `x`; a projection that strides is of `kernel_size`."""
    channels = branch.shape[-1]
    branch = excite(branch, ops, name=f"{name}_se") if excite else branch
    if projects(x, channels, shortcut):
        kernel_size = kernel_size if strides > 1 else 1
        x = ops.conv(x, channels, kernel_size, strides=strides, use_bias=use_bias, name=f"{name}_shortcut")
        x = ops.normalize(x, name=f"{name}_shortcut_norm")
    else:
        x = identity(x, channels, strides=strides, name=f"{name}_shortcut")
    return ops.activate(ops.residual(x, branch, depth=depth, name=name), name=f"{name}_act")


def basic(
    x: Any,
    ops: Ops,
    channels: int,
    *,
    strides: int,
    depth: float,
    name: str,
    shortcut: str = "B",
    excite: Callable[..., Any] | None = None,
) -> Any:
    """Figure 5, left: two 3x3 convolutions; `excite`, (x, ops, *, name) → x, comes behind them."""
    branch = conv_norm_act(x, ops, channels, 3, strides=strides, name=f"{name}_conv1")
    branch = ops.normalize(ops.conv(branch, channels, 3, name=f"{name}_conv2"), name=f"{name}_conv2_norm")
    return _merge(x, branch, ops, strides=strides, depth=depth, name=name, shortcut=shortcut, excite=excite)


def bottleneck(
    x: Any,
    ops: Ops,
    channels: int,
    *,
    strides: int,
    depth: float,
    name: str,
    shortcut: str = "B",
    strided: int = 2,
    use_bias: bool = False,
    groups: int = 1,
    width: int = 64,
    narrowing: int = 1,
    projection: int = 1,
    excite: Callable[..., Any] | None = None,
) -> Any:
    """Figure 5, right: 1x1, 3x3, and 1x1 to four times `channels`.

    Convolution number `strided` has the stride. The 3x3 one has `groups` of `width` channels in the first stage, in the
    others in proportion, and the first convolution a `narrowing`-th of them. Projections that stride are `projection`
    pixels wide. `excite` as in `basic`.
    """
    inner = int(channels * width / 64) * groups
    first, second = (strides, 1) if strided == 1 else (1, strides)
    branch = conv_norm_act(x, ops, inner // narrowing, 1, strides=first, use_bias=use_bias, name=f"{name}_conv1")
    branch = conv_norm_act(
        branch, ops, inner, 3, strides=second, groups=groups, use_bias=use_bias, name=f"{name}_conv2"
    )
    branch = ops.conv(branch, 4 * channels, 1, use_bias=use_bias, name=f"{name}_conv3")
    branch = ops.normalize(branch, name=f"{name}_conv3_norm")
    return _merge(
        x,
        branch,
        ops,
        strides=strides,
        depth=depth,
        name=name,
        shortcut=shortcut,
        excite=excite,
        kernel_size=projection,
        use_bias=use_bias,
    )


def residual_stages(
    x: Any,
    ops: Ops,
    block: Callable[..., Any],
    *,
    depths: tuple[int, ...],
    channels: tuple[int, ...] = (64, 128, 256, 512),
    strides: tuple[int, ...] = (1, 2, 2, 2),
    strided: int = 0,
) -> Any:
    """Stages of blocks, (x, ops, channels, *, strides, depth, name) → x; the one of index `strided` has the stride."""
    count = 0
    for stage, (depth, width, stride) in enumerate(zip(depths, channels, strides, strict=True), start=1):
        for index in range(depth):
            count += 1
            x = block(
                x,
                ops,
                width,
                strides=stride if index == strided % depth else 1,
                depth=count / sum(depths),
                name=f"stage{stage}_block{index + 1}",
            )
    return x


def imagenet_stem(x: Any, ops: Ops, *, use_bias: bool = False) -> Any:
    """A 7x7 convolution and max pooling; output stride 4."""
    x = conv_norm_act(x, ops, 64, 7, strides=2, use_bias=use_bias, name="stem_conv")
    return ops.max_pool(x, 3, 2, name="stem_pool")


def features(
    x: Any,
    ops: Ops,
    *,
    block: Callable[..., Any],
    stem: Callable[..., Any] = imagenet_stem,
    shortcut: str = "B",
    **stages: Any,
) -> Any:
    """A stem, and the stages of `residual_stages`."""
    return residual_stages(stem(x, ops), ops, partial(block, shortcut=shortcut), **stages)


_TORCHVISION = (
    # name           depth  block       parameters  multiply-adds   top-1, top-5 of the first weights (torchvision)
    ("resnet18", 18, basic, 11_689_512, 1_814_073_344, 69.8, 89.1),
    ("resnet34", 34, basic, 21_797_672, 3_663_761_408, 73.3, 91.4),
    ("resnet50.torch", 50, bottleneck, 25_557_032, 4_089_184_256, 76.1, 92.9),
    ("resnet101.torch", 101, bottleneck, 44_549_160, 7_801_405_440, 77.4, 93.5),
    ("resnet152.torch", 152, bottleneck, 60_192_808, 11_513_626_624, 78.3, 94.0),
)
_KERAS = (
    # depth, parameters, multiply-adds, md5 of the weights, top-1, top-5 (keras.io)
    (50, 25_583_592, 3_857_973_248, "2cb95161c43110f7111970584f804107", 74.9, 92.1),
    (101, 44_601_832, 7_570_194_432, "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4, 92.8),
    (152, 60_268_520, 11_282_415_616, "100835be76be38e30d865e96f2aaae62", 76.6, 93.1),
)
PAPER = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385"

for _name, _depth, _block, _params, _macs, _top1, _top5 in _TORCHVISION:
    _twin = _name.removesuffix(".torch")
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="resnet",
            features=partial(features, block=_block, depths=DEPTHS[_depth]),
            paper=PAPER,
            year=2015,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="torch",
            design={**DESIGN, "shortcut": "B"},
            torch={"torchvision": _twin, "timm": _twin},
            top1=_top1,
            top5=_top5,
            note="The paper rounds multiply-adds down (ResNet-34: 3.6 billion); it has a bottleneck's stride in the "
            "first convolution.",
        ),
    )

for _depth, _params, _macs, _md5, _top1, _top5 in _KERAS:
    _name = f"resnet{_depth}"
    _block, _stem = partial(bottleneck, strided=1, use_bias=True), partial(imagenet_stem, use_bias=True)
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="resnet",
            features=partial(features, block=_block, stem=_stem, depths=DEPTHS[_depth]),
            paper=PAPER,
            year=2015,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="caffe",
            design={**DESIGN, "norm_epsilon": 1.001e-5, "shortcut": "B"},
            application=Application(
                f"ResNet{_depth}", f"resnet/{_name}_weights_tf_dim_ordering_tf_kernels.h5", md5=_md5
            ),
            top1=_top1,
            top5=_top5,
            note="The paper rounds multiply-adds down (ResNet-50: 3.8 billion).",
        ),
    )
