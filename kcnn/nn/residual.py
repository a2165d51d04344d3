"""Residual blocks and the stages they make (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016)."""

from collections.abc import Callable
from typing import Any

import keras

from kcnn.errors import UserError, nearest
from kcnn.nn.blocks import Ops, conv_norm, conv_norm_act
from kcnn.nn.layers import PadChannels

_SHORTCUTS = ("A", "B", "C")


def projects(x: Any, channels: int, option: str) -> bool:
    """Whether a shortcut from `x` to `channels` is a projection, by the option of its section 4.1.

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
        x = conv_norm(x, ops, channels, kernel_size, strides=strides, use_bias=use_bias, name=f"{name}_shortcut")
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
    branch = conv_norm(branch, ops, channels, 3, name=f"{name}_conv2")
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
    branch = conv_norm(branch, ops, 4 * channels, 1, use_bias=use_bias, name=f"{name}_conv3")
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
