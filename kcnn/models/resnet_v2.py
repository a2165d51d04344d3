"""ResNet v2, with pre-activation (He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016).

Figure 4(e): normalisation and activation come before each convolution, and nothing is on the shortcuts.

ResNet-50/101/152 v2 are keras.applications', to take its weights. Deviations, as there: the stride of a stage is in the
3x3 convolution of its last block, whose shortcut is then a subsampling; nothing normalises the stem; convolutions
without batch norm after them have biases; epsilon is 1.001e-5.

ResNet-18/34 v2 and `.torch` are timm's: the stride is in the first block, as in the paper, and there are no biases.
"""

import dataclasses
from functools import partial
from typing import Unpack

import keras
from keras import KerasTensor

from kcnn.models.resnet import DEPTHS, DESIGN
from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops, Stem, conv_norm_act, pad
from kcnn.nn.residual import StageOptions, identity, projects, residual_stages
from kcnn.nn.stages import BlockPosition


def _preactivate(x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    return ops.activate(ops.normalize(x, name=f"{name}_norm"), name=f"{name}_act")


def _shortcut(
    x: KerasTensor,
    active: KerasTensor,
    ops: Ops,
    channels: int,
    option: str,
    at: BlockPosition,
    *,
    use_bias: bool = False,
) -> KerasTensor:
    """Build a shortcut from `x` itself, or a projection of the activated `x`."""
    name = f"{at.name}_shortcut"
    if projects(x, channels, option):
        x = ops.conv(active, channels, 1, strides=at.strides, use_bias=use_bias, name=name)
    else:
        x = identity(x, channels, strides=at.strides, name=name)
    return ops.drop_block(x, at, name=name)


@dataclasses.dataclass(frozen=True)
class PreActivationBasic:
    """Two 3x3 convolutions to `channels`, with dropout between them.

    Attributes:
        shortcut: option of section 4.1 of the first paper, "A", "B" or "C".
        block_dropout: rate between the convolutions, 0 to less than 1 (Zagoruyko & Komodakis, section 2.4).
    """

    shortcut: str = "B"
    block_dropout: float = 0.0

    def __call__(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the block, float [N, H, W, C] → [N, H / strides, W / strides, channels]."""
        active = _preactivate(x, ops, name=f"{at.name}_preact")
        branch = conv_norm_act(active, ops, channels, 3, strides=at.strides, name=f"{at.name}_conv1")
        branch = ops.drop_block(branch, at, name=f"{at.name}_conv1")
        if self.block_dropout:
            branch = keras.layers.Dropout(self.block_dropout, name=f"{at.name}_dropout")(branch)
        branch = ops.conv(branch, channels, 3, name=f"{at.name}_conv2")
        branch = ops.drop_block(branch, at, name=f"{at.name}_conv2")
        x = _shortcut(x, active, ops, channels, self.shortcut, at)
        return ops.residual(x, branch, drop_rate=at.drop_rate, name=at.name)


@dataclasses.dataclass(frozen=True)
class PreActivationBottleneck:
    """1x1, 3x3, and 1x1 to four times `channels`.

    Attributes:
        shortcut: option of section 4.1 of the first paper, "A", "B" or "C".
        use_bias: whether convolutions without normalisation after them have biases.
    """

    shortcut: str = "B"
    use_bias: bool = False

    def __call__(self, x: KerasTensor, ops: Ops, channels: int, at: BlockPosition) -> KerasTensor:
        """Build the block, float [N, H, W, C] → [N, H / strides, W / strides, 4 * channels]."""
        active = _preactivate(x, ops, name=f"{at.name}_preact")
        branch = conv_norm_act(active, ops, channels, 1, name=f"{at.name}_conv1")
        branch = ops.drop_block(branch, at, name=f"{at.name}_conv1")
        branch = conv_norm_act(branch, ops, channels, 3, strides=at.strides, name=f"{at.name}_conv2")
        branch = ops.drop_block(branch, at, name=f"{at.name}_conv2")
        branch = ops.conv(branch, 4 * channels, 1, use_bias=self.use_bias, name=f"{at.name}_conv3")
        branch = ops.drop_block(branch, at, name=f"{at.name}_conv3")
        x = _shortcut(x, active, ops, 4 * channels, self.shortcut, at, use_bias=self.use_bias)
        return ops.residual(x, branch, drop_rate=at.drop_rate, name=at.name)


def keras_stem(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build a 7x7 convolution, and max pooling with zeros around it that can win; output stride 4."""
    x = ops.conv(x, 64, 7, strides=2, use_bias=True, name="stem_conv")
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(pad(x, 1, name="stem_pool_pad"))


def torch_stem(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build a 7x7 convolution, and max pooling with a margin that never wins; output stride 4."""
    x = ops.conv(x, 64, 7, strides=2, name="stem_conv")
    return ops.max_pool(x, 3, 2, name="stem_pool")


def features(
    x: KerasTensor,
    ops: Ops,
    *,
    block: PreActivationBasic | PreActivationBottleneck,
    stem: Stem,
    shortcut: str = "B",
    **stages: Unpack[StageOptions],
) -> KerasTensor:
    """Build a stem, the stages of `residual_stages`, and the activation that the last block is without."""
    block = dataclasses.replace(block, shortcut=shortcut)
    x = residual_stages(stem(x, ops), ops, block, **stages)
    return _preactivate(x, ops, name=f"stage{len(stages['depths'])}_post")


_row = partial(
    ModelSpec,
    family="resnetv2",
    paper="He et al., Identity Mappings in Deep Residual Networks, ECCV 2016, arXiv:1603.05027",
    year=2016,
    input_size=224,
    min_size=32,
    preprocessing="tf",
)
# The stride of a stage is in its last block.
_keras_features = partial(
    features, block=PreActivationBottleneck(use_bias=True), stem=keras_stem, strides=(2, 2, 2, 1), strided=-1
)


def _keras(name: str, depth: int, params: int, macs: int, md5: str, top1: float, top5: float) -> ModelSpec:
    file = f"resnet/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return _row(
        name,
        features=partial(_keras_features, depths=DEPTHS[depth]),
        params=params,
        macs=macs,
        design={**DESIGN, "norm_epsilon": 1.001e-5, "shortcut": "B"},
        application=Application(f"ResNet{depth}V2", file, file_hash=md5),
        top1=top1,
        top5=top5,
        note="Fewer multiply-adds than with the stride in a stage's first block.",
    )


def _timm(
    name: str, depth: int, block: PreActivationBasic | PreActivationBottleneck, params: int, macs: int
) -> ModelSpec:
    return _row(
        name,
        features=partial(features, block=block, stem=torch_stem, depths=DEPTHS[depth]),
        params=params,
        macs=macs,
        design={**DESIGN, "shortcut": "B"},
        torch={"timm": f"resnetv2_{depth}"},
        note="The paper has no figures for ImageNet's networks of these depths but ResNet-152 and 200.",
    )


register(
    # depth, parameters, multiply-adds, md5 of the weights, top-1, top-5 (keras.io)
    _keras("resnet50v2", 50, 25_568_360, 3_482_255_360, "3ef43a0b657b3be2300d5770ece849e0", 76.0, 93.0),
    _keras("resnet101v2", 101, 44_577_896, 7_194_476_544, "6343647c601c52e1368623803854d971", 77.2, 93.8),
    _keras("resnet152v2", 152, 60_236_904, 10_906_697_728, "a49b44d1979771252814e80f8ec446f9", 78.0, 94.2),
    # depth, block, parameters, multiply-adds
    _timm("resnet18v2", 18, PreActivationBasic(), 11_687_720, 1_814_073_344),
    _timm("resnet34v2", 34, PreActivationBasic(), 21_795_880, 3_663_761_408),
    _timm("resnet50v2.torch", 50, PreActivationBottleneck(), 25_549_352, 4_089_184_256),
    _timm("resnet101v2.torch", 101, PreActivationBottleneck(), 44_541_480, 7_801_405_440),
    _timm("resnet152v2.torch", 152, PreActivationBottleneck(), 60_185_128, 11_513_626_624),
)
