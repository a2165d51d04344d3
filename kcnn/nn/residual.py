"""Residual blocks and the stages they make (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016)."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from typing import Required, TypedDict

import keras
from keras import KerasTensor

from kcnn.nn.blocks import Ops, conv_norm, conv_norm_act
from kcnn.nn.layers import PadChannels
from kcnn.nn.stages import BlockPosition, block_positions

SHORTCUTS = ("A", "B", "C")

# (x, ops, channels, position) → x
Block = Callable[[KerasTensor, Ops, int, BlockPosition], KerasTensor]


def projects(x: KerasTensor, channels: int, option: str) -> bool:
    """Return whether a shortcut from `x` to `channels` is a projection, by the option of section 4.1, A, B or C."""
    return option == "C" or (option == "B" and x.shape[-1] != channels)


def identity(x: KerasTensor, channels: int, *, strides: int, name: str) -> KerasTensor:
    """Build a shortcut without parameters: every `strides`-th pixel, zeros for the channels that are new.

    Args:
        x: float [N, H, W, C].
        channels: of the output, C or more.
        strides: of the output.
        name: of the layers.

    Returns:
        float [N, H / strides, W / strides, channels].
    """
    if strides > 1:
        x = keras.layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x)
    return x if x.shape[-1] == channels else PadChannels(channels - x.shape[-1], name=f"{name}_pad")(x)


@dataclasses.dataclass(frozen=True)
class _ResidualBlock(abc.ABC):
    """A branch, a shortcut, their sum and an activation: the parts of every residual block.

    Attributes:
        shortcut: option of section 4.1: "A", zeros for new channels; "B", a projection where the channels change;
            "C", a projection everywhere.
        excite: (x, ops, *, name) → x, applied to the branch before the sum.
        projection: kernel size of a projection that strides.
        use_bias: whether convolutions have biases.
    """

    shortcut: str = "B"
    excite: Callable[..., KerasTensor] | None = None
    projection: int = 1
    use_bias: bool = False

    @abc.abstractmethod
    def branch(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the layers beside the shortcut."""

    def __call__(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the block, float [N, H, W, C] → [N, H / strides, W / strides, C']."""
        branch = self.branch(x, ops, channels, at)
        branch = self.excite(branch, ops, name=f"{at.name}_se") if self.excite else branch
        name, width = f"{at.name}_shortcut", branch.shape[-1]
        if projects(x, width, self.shortcut):
            kernel_size = self.projection if at.strides > 1 else 1
            x = conv_norm(x, ops, width, kernel_size, strides=at.strides, use_bias=self.use_bias, name=name)
        else:
            x = identity(x, width, strides=at.strides, name=name)
        x = ops.drop_block(x, at, name=name)
        return ops.activate(ops.residual(x, branch, drop_rate=at.drop_rate, name=at.name), name=f"{at.name}_act")


@dataclasses.dataclass(frozen=True)
class BasicBlock(_ResidualBlock):
    """Figure 5, left: two 3x3 convolutions to `channels`."""

    def branch(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the two convolutions; the first has the stride."""
        first, second = f"{at.name}_conv1", f"{at.name}_conv2"
        x = conv_norm_act(x, ops, channels, 3, strides=at.strides, use_bias=self.use_bias, name=first)
        x = conv_norm(ops.drop_block(x, at, name=first), ops, channels, 3, use_bias=self.use_bias, name=second)
        return ops.drop_block(x, at, name=second)


@dataclasses.dataclass(frozen=True)
class BottleneckBlock(_ResidualBlock):
    """Figure 5, right: 1x1, 3x3, and 1x1 to four times `channels`.

    Attributes:
        strided: number of the convolution that has the stride, 1 or 2.
        groups: of the 3x3 convolution.
        width: channels of each group in the first stage, of 64; in the others in proportion.
        narrowing: the first convolution has a `narrowing`-th of the 3x3 one's channels.
    """

    strided: int = 2
    groups: int = 1
    width: int = 64
    narrowing: int = 1

    def branch(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the three convolutions."""
        inner = int(channels * self.width / 64) * self.groups
        first, second = (at.strides, 1) if self.strided == 1 else (1, at.strides)
        bias, name = self.use_bias, at.name
        x = conv_norm_act(x, ops, inner // self.narrowing, 1, strides=first, use_bias=bias, name=f"{name}_conv1")
        x = ops.drop_block(x, at, name=f"{name}_conv1")
        x = conv_norm_act(x, ops, inner, 3, strides=second, groups=self.groups, use_bias=bias, name=f"{name}_conv2")
        x = ops.drop_block(x, at, name=f"{name}_conv2")
        x = conv_norm(x, ops, 4 * channels, 1, use_bias=bias, name=f"{name}_conv3")
        return ops.drop_block(x, at, name=f"{name}_conv3")


class StageOptions(TypedDict, total=False):
    """Arguments of `residual_stages` that say which blocks there are."""

    depths: Required[Sequence[int]]
    channels: Sequence[int]
    strides: Sequence[int]
    strided: int


def residual_stages(
    x: KerasTensor,
    ops: Ops,
    block: Block,
    *,
    depths: Sequence[int],
    channels: Sequence[int] = (64, 128, 256, 512),
    strides: Sequence[int] = (1, 2, 2, 2),
    strided: int = 0,
) -> KerasTensor:
    """Build stages of one kind of block.

    Args:
        x: float [N, H, W, C].
        ops: the operations.
        block: (x, ops, channels, position) → x.
        depths: blocks of each stage.
        channels: of each stage, as the block counts them.
        strides: of each stage.
        strided: index, within a stage, of the block that has the stage's stride.
    """
    for at in block_positions(depths, strides, drop_path=ops.drop_path, strided=strided):
        x = block(x, ops, channels[at.stage - 1], at)
    return x
