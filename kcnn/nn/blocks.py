"""Building blocks: plain functions from tensor to tensor, and the operations that a design choice changes."""

import dataclasses
import math
from collections.abc import Callable
from typing import TypedDict, Unpack

import keras
from keras import KerasTensor

from kcnn.nn.convolutions import DepthwiseConv, GroupedConv, PointwiseConv
from kcnn.nn.dropping import DropBlock
from kcnn.nn.layers import LowestPadding, StochasticDepth
from kcnn.nn.normalization import BatchNorm
from kcnn.nn.stages import BlockPosition

NORMS = ("batch", "sync_batch", "group", "layer", "none")
PADDINGS = ("same", "symmetric")
_GROUPS = 32  # Wu & He, "Group Normalization", ECCV 2018, section 4


class ConvOptions(TypedDict, total=False):
    """Arguments of `Ops.conv` that have defaults."""

    strides: int
    padding: str | None
    groups: int
    use_bias: bool


class DepthwiseOptions(TypedDict, total=False):
    """Arguments of `Ops.depthwise` that have defaults."""

    strides: int
    padding: str | None
    use_bias: bool


@dataclasses.dataclass(frozen=True)
class Ops:
    """The operations that a family builds with, bound once by the factory to the design that was asked for.

    Attributes:
        norm: "batch", "sync_batch" (statistics over all replicas), "group", "layer" or "none".
        bn_momentum: of batch norm's moving statistics. 0.99 for every family: the 0.999 of keras.applications'
            MobileNetV2 lags by thousands of steps, longer than many fine-tunings last.
        norm_epsilon: added to the variance, more than 0.
        norm_scale: whether normalisation has a scale (gamma).
        activation: a name of Keras', of those in `kcnn.models.design`.
        kernel_initializer: of convolutions but depthwise ones, and of hidden dense layers; a name of Keras'.
        dropout: rate in the classifier head, 0 to less than 1.
        drop_path: rate at which the last residual branch is dropped, per sample, 0 to less than 1; earlier ones less,
            as `kcnn.nn.stages.block_positions` has it.
        dropconnect: rate at which weights of the last layer are left out, 0 to less than 1.
        dropblock: rate at which squares of the last stage's feature maps are dropped, 0 to less than 1; of the stage
            before it a quarter.
        padding: of strided convolutions and poolings whose block does not say: "same", TensorFlow's, one more on the
            far side where the sizes ask for it, or "symmetric", (kernel_size - 1) / 2 on all sides, as PyTorch's.
    """

    norm: str = "batch"
    bn_momentum: float = 0.99
    norm_epsilon: float = 1e-3
    norm_scale: bool = True
    activation: str = "relu"
    kernel_initializer: str = "he_normal"
    dropout: float = 0.0
    drop_path: float = 0.0
    dropconnect: float = 0.0
    dropblock: float = 0.0
    padding: str = "same"

    def conv(
        self,
        x: KerasTensor,
        filters: int,
        kernel_size: int | tuple[int, int],
        *,
        name: str,
        strides: int = 1,
        padding: str | None = None,
        groups: int = 1,
        use_bias: bool = False,
    ) -> KerasTensor:
        """Build a convolution, float [N, H, W, C] → [N, H', W', filters].

        Args:
            x: float [N, H, W, C].
            filters: channels of the output.
            kernel_size: height and width, or one number for both.
            name: of the layer.
            strides: of the output.
            padding: "same" or "valid"; None for the design's.
            groups: of channels that do not see one another.
            use_bias: whether a number for each output channel is added.
        """
        x, padding = self._pad(x, kernel_size, strides, padding, name)
        kind = GroupedConv if groups > 1 else PointwiseConv if kernel_size == 1 else keras.layers.Conv2D
        return kind(
            filters,
            kernel_size,
            strides,
            padding,
            groups=groups,
            use_bias=use_bias,
            kernel_initializer=self.kernel_initializer,
            name=name,
        )(x)

    def depthwise(
        self,
        x: KerasTensor,
        kernel_size: int,
        *,
        name: str,
        strides: int = 1,
        padding: str | None = None,
        use_bias: bool = False,
    ) -> KerasTensor:
        """Build a depthwise convolution, float [N, H, W, C] → [N, H', W', C]; `padding` None is the design's."""
        x, padding = self._pad(x, kernel_size, strides, padding, name)
        # He's normal for the true fan-in: Keras' initialisers take a depthwise kernel for a dense one.
        initializer = keras.initializers.RandomNormal(stddev=math.sqrt(2) / kernel_size)
        return DepthwiseConv(
            kernel_size, strides, padding, use_bias=use_bias, depthwise_initializer=initializer, name=name
        )(x)

    def separable(
        self, x: KerasTensor, filters: int, kernel_size: int, *, name: str, strides: int = 1, padding: str | None = None
    ) -> KerasTensor:
        """Build a depthwise and a 1x1 convolution with nothing between (Chollet, "Xception", CVPR 2017, section 2)."""
        x = self.depthwise(x, kernel_size, strides=strides, padding=padding, name=f"{name}_depthwise")
        return self.conv(x, filters, 1, name=f"{name}_pointwise")

    def max_pool(self, x: KerasTensor, pool_size: int, strides: int, *, name: str) -> KerasTensor:
        """Build max pooling, float [N, H, W, C] → [N, H', W', C], padded by the design with what never wins."""
        x, padding = self._pad(x, pool_size, strides, None, name, LowestPadding)
        return keras.layers.MaxPooling2D(pool_size, strides, padding, name=name)(x)

    def _pad(
        self,
        x: KerasTensor,
        kernel_size: int | tuple[int, int],
        strides: int,
        padding: str | None,
        name: str,
        margin: type[keras.layers.ZeroPadding2D] = keras.layers.ZeroPadding2D,
    ) -> tuple[KerasTensor, str]:
        """Return `x`, padded where Keras cannot, and what is left for Keras to pad."""
        if padding is not None:
            return x, padding
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        if self.padding == "symmetric" and strides > 1 and max(height, width) > 1:
            margins = ((height - 1) // 2, (width - 1) // 2)
            return margin(margins, name=f"{name}_pad")(x), "valid"
        return x, "same"

    def normalize(self, x: KerasTensor, *, name: str) -> KerasTensor:
        """Build the chosen normalisation, float [N, H, W, C] → the same shape."""
        if self.norm == "none":
            return x
        settings = {"epsilon": self.norm_epsilon, "scale": self.norm_scale, "name": name}
        if self.norm in ("batch", "sync_batch"):
            sync = self.norm == "sync_batch"
            return BatchNorm(momentum=self.bn_momentum, synchronized=sync, **settings)(x)
        groups = 1 if self.norm == "layer" else math.gcd(_GROUPS, x.shape[-1])
        return keras.layers.GroupNormalization(groups, **settings)(x)

    def activate(self, x: KerasTensor, *, name: str) -> KerasTensor:
        """Build the chosen activation, float [...] → the same shape."""
        return keras.layers.Activation(self.activation, name=name)(x)

    def drop_block(self, x: KerasTensor, at: BlockPosition, *, name: str) -> KerasTensor:
        """Build DropBlock in the last two stages, float [N, H, W, C] → the same shape, where the design has it.

        As Ghiasi et al., section 4.1, have it for ResNet's groups 3 and 4: each group's rate is a quarter of the next.
        """
        rate = self.dropblock / 4 ** (at.stages - at.stage)
        if not rate or at.stages - at.stage > 1:
            return x
        return DropBlock(rate, name=f"{name}_dropblock")(x)

    def residual(self, shortcut: KerasTensor, branch: KerasTensor, *, drop_rate: float, name: str) -> KerasTensor:
        """Build shortcut + branch.

        Args:
            shortcut: float [N, H, W, C].
            branch: of the same shape.
            drop_rate: rate at which a sample's branch is dropped in training, where the design has `drop_path`.
            name: of the block.
        """
        if self.drop_path:
            branch = StochasticDepth(drop_rate, name=f"{name}_drop_path")(branch)
        return keras.layers.Add(name=f"{name}_add")([shortcut, branch])


# (x, ops) → x
Stem = Callable[[KerasTensor, Ops], KerasTensor]


def conv_norm(
    x: KerasTensor,
    ops: Ops,
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    name: str,
    **conv: Unpack[ConvOptions],
) -> KerasTensor:
    """Build convolution `name`, with the other arguments of `Ops.conv`, and normalisation `name_norm`."""
    return ops.normalize(ops.conv(x, filters, kernel_size, name=name, **conv), name=f"{name}_norm")


def conv_norm_act(
    x: KerasTensor,
    ops: Ops,
    filters: int,
    kernel_size: int | tuple[int, int],
    *,
    name: str,
    **conv: Unpack[ConvOptions],
) -> KerasTensor:
    """Build what `conv_norm` builds, and activation `name_act`."""
    return ops.activate(conv_norm(x, ops, filters, kernel_size, name=name, **conv), name=f"{name}_act")


def depthwise_norm(
    x: KerasTensor, ops: Ops, kernel_size: int, *, name: str, **conv: Unpack[DepthwiseOptions]
) -> KerasTensor:
    """Build depthwise convolution `name`, with the other arguments of `Ops.depthwise`, and `name_norm`."""
    return ops.normalize(ops.depthwise(x, kernel_size, name=name, **conv), name=f"{name}_norm")


def depthwise_norm_act(
    x: KerasTensor, ops: Ops, kernel_size: int, *, name: str, **conv: Unpack[DepthwiseOptions]
) -> KerasTensor:
    """Build what `depthwise_norm` builds, and activation `name_act`."""
    return ops.activate(depthwise_norm(x, ops, kernel_size, name=name, **conv), name=f"{name}_act")


def squeeze_excite(
    x: KerasTensor, ops: Ops, squeezed_channels: int, *, name: str, activation: str = "relu", gate: str = "sigmoid"
) -> KerasTensor:
    """Weigh each channel by a gate on the averages of all (Hu et al., "Squeeze-and-Excitation", CVPR 2018, section 3).

    Args:
        x: float [N, H, W, C].
        ops: makes the two layers, 1x1 convolutions with biases.
        squeezed_channels: between the two.
        name: of the block.
        activation: after the first, a name of Keras'.
        gate: after the second, a name of Keras'.

    Returns:
        float [N, H, W, C].
    """
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
    scale = ops.conv(scale, squeezed_channels, 1, use_bias=True, name=f"{name}_reduce")
    scale = keras.layers.Activation(activation, name=f"{name}_reduce_act")(scale)
    scale = ops.conv(scale, x.shape[-1], 1, use_bias=True, name=f"{name}_expand")
    scale = keras.layers.Activation(gate, name=f"{name}_gate")(scale)
    return keras.layers.Multiply(name=f"{name}_scale")([x, scale])


def pad(x: KerasTensor, width: int, *, name: str) -> KerasTensor:
    """Pad with `width` zeros on all four sides; "same" padding at stride 2 pads one side more than the other."""
    return keras.layers.ZeroPadding2D(width, name=name)(x)


def ceil_pool(x: KerasTensor, pool_size: int = 3, *, name: str) -> KerasTensor:
    """Build max pooling at stride 2 from the first pixel on. The last window may reach over the edge, as Caffe's does.

    The zeros there lose to what a ReLU lets through. No window reaches them where the size leaves nothing over.
    """
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    return keras.layers.MaxPooling2D(pool_size, 2, name=name)(x)


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of `divisor` nearest to `channels`, at least `divisor` and at least 0.9 of `channels`.

    The rule of the MobileNets' reference implementation (tensorflow/models, slim/nets/mobilenet).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
