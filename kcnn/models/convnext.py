"""ConvNeXt (Liu et al., "A ConvNet for the 2020s", CVPR 2022).

Section 3, "Macro design" to "Micro design", and table 9; figure 4 has the block. Stochastic depth is that of the
paper's training from scratch (table 5, on ImageNet-1K; ConvNeXt-XL, which was trained on ImageNet-22K alone, has its
rate there) and rises from 0 at the first block. Deviation: kernels begin with the standard deviation that Keras'
truncated normal has, 0.05; the paper's is 0.02, and layer normalisation sets the scale after either.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops
from kcnn.nn.heads import logits
from kcnn.nn.normalization import LayerNorm, LayerScale
from kcnn.nn.stages import BlockPosition, block_positions

_EPSILON = 1e-6
_EXPANSION = 4


def _block(x: KerasTensor, ops: Ops, at: BlockPosition, *, layer_scale: float) -> KerasTensor:
    """Build figure 4, right: 7x7 depthwise, 1x1 to four times the channels, 1x1 back; one norm, one activation."""
    shortcut, channels, name = x, x.shape[-1], at.name
    x = ops.conv(x, channels, 7, groups=channels, use_bias=True, name=f"{name}_depthwise")
    x = LayerNorm(epsilon=_EPSILON, name=f"{name}_norm")(x)
    x = ops.conv(x, _EXPANSION * channels, 1, use_bias=True, name=f"{name}_expand")
    x = ops.activate(x, name=f"{name}_act")
    x = ops.conv(x, channels, 1, use_bias=True, name=f"{name}_project")
    x = LayerScale(layer_scale, name=f"{name}_scale")(x)
    return ops.residual(shortcut, x, drop_rate=at.drop_rate, name=name)


def features(
    x: KerasTensor, ops: Ops, *, depths: Sequence[int], channels: Sequence[int], layer_scale: float
) -> KerasTensor:
    """Build a 4x4 convolution at stride 4 and four stages, with a 2x2 one at stride 2 between; output stride 32.

    Args:
        x: float [N, H, W, 3].
        ops: the operations.
        depths: blocks per stage.
        channels: of each stage.
        layer_scale: what each channel of a branch is multiplied by at first.
    """
    x = ops.conv(x, channels[0], 4, strides=4, padding="valid", use_bias=True, name="stem_conv")
    x = LayerNorm(epsilon=_EPSILON, name="stem_norm")(x)
    for at in block_positions(depths, [1] * len(depths), drop_path=ops.drop_path, never_dropped=1):
        if at.index == 1 and at.stage > 1:
            name, width = f"stage{at.stage}_downsample", channels[at.stage - 1]
            x = LayerNorm(epsilon=_EPSILON, name=f"{name}_norm")(x)
            x = ops.conv(x, width, 2, strides=2, padding="valid", use_bias=True, name=f"{name}_conv")
        x = _block(x, ops, at, layer_scale=layer_scale)
    return x


def _head(x: KerasTensor, ops: Ops, num_classes: int) -> KerasTensor:
    """Build global average pooling, layer normalisation, one dense layer."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = LayerNorm(epsilon=_EPSILON, name="head_norm")(x)
    if ops.dropout:
        x = keras.layers.Dropout(ops.dropout, name="head_dropout")(x)
    return logits(x, ops, num_classes)


@dataclasses.dataclass(frozen=True)
class _Size:
    """A row of section 3's list of variants, with its stochastic depth."""

    name: str
    depths: tuple[int, ...]
    channels: tuple[int, ...]
    drop_path: float


_T = _Size("Tiny", (3, 3, 9, 3), (96, 192, 384, 768), 0.1)
_S = _Size("Small", (3, 3, 27, 3), (96, 192, 384, 768), 0.4)
_B = _Size("Base", (3, 3, 27, 3), (128, 256, 512, 1024), 0.5)
_L = _Size("Large", (3, 3, 27, 3), (192, 384, 768, 1536), 0.5)
_XL = _Size("XLarge", (3, 3, 27, 3), (256, 512, 1024, 2048), 0.2)


def _row(name: str, size: _Size, params: int, macs: int, top1: float, sha256: str, *projects: str) -> ModelSpec:
    twin = f"convnext_{size.name.lower()}"
    return ModelSpec(
        name,
        family="convnext",
        features=partial(features, depths=size.depths, channels=size.channels),
        paper="Liu et al., A ConvNet for the 2020s, CVPR 2022, arXiv:2201.03545",
        year=2022,
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="torch",
        design={
            "layer_scale": 1e-6,
            "activation": "gelu",
            "kernel_initializer": "truncated_normal",
            "dropout": 0.0,
            "dropconnect": 0.0,
            "drop_path": size.drop_path,
        },
        head=_head,
        application=Application(f"ConvNeXt{size.name}", f"convnext/{twin}.h5", file_hash=sha256),
        torch=dict.fromkeys(projects, twin),
        top1=top1,
        note="The paper rounds: 29/50/89/198/350 M parameters and 4.5/8.7/15.4/34.4/60.9 billion multiply-adds. "
        "Keras' weights of base and larger were pre-trained on ImageNet-22K; it gives no top-5.",
    )


register(
    # size, parameters, multiply-adds, top-1 and sha256 of Keras' weights, projects with these networks
    _row("convnexttiny", _T, 28_589_128, 4_455_531_264, 81.3,
         "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff", "torchvision", "timm"),
    _row("convnextsmall", _S, 50_223_688, 8_683_712_256, 82.3,
         "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c", "torchvision", "timm"),
    _row("convnextbase", _B, 88_591_464, 15_354_729_472, 85.3,
         "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6", "torchvision", "timm"),
    _row("convnextlarge", _L, 197_767_336, 34_361_433_600, 86.3,
         "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6", "torchvision", "timm"),
    _row("convnextxlarge", _XL, 350_196_968, 60_921_030_656, 86.7,
         "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee", "timm"),
)  # fmt: skip
