"""SE-ResNet, SE-ResNeXt and SENet-154 (Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018).

Figure 3 with a reduction of 16: the channels of each residual branch are weighed before they are added (table 1;
SENet-154: appendix). The networks are those of the authors' release: a stage's stride in its first 1x1 convolution (in
the 3x3 where that is grouped), and Caffe's pooling, which rounds sizes up. SE-ResNet-18/34, which it does not have, are
the ports' (timm's "legacy_" networks): one more activation, before the squeeze.

`.torch` are timm's own: the stride always in the 3x3 convolution, pooling with symmetric padding, at least 8 channels
in the middle of the squeeze.
"""

from collections.abc import Callable
from functools import partial

from keras import KerasTensor

from kcnn.models.resnet import DEPTHS, DESIGN, features
from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops, Stem, ceil_pool, conv_norm_act, squeeze_excite
from kcnn.nn.residual import BasicBlock, BottleneckBlock


def _excite(x: KerasTensor, ops: Ops, *, name: str, at_least: int = 1) -> KerasTensor:
    return squeeze_excite(x, ops, max(x.shape[-1] // 16, at_least), name=name)


def _activate_and_excite(x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    return _excite(ops.activate(x, name=f"{name}_input_act"), ops, name=name)


def _caffe_pool(x: KerasTensor, ops: Ops) -> KerasTensor:
    return ceil_pool(x, name="stem_pool")


def _torch_pool(x: KerasTensor, ops: Ops) -> KerasTensor:
    return ops.max_pool(x, 3, 2, name="stem_pool")


def _stem(x: KerasTensor, ops: Ops, *, pool: Stem) -> KerasTensor:
    """Build a 7x7 convolution and max pooling; output stride 4."""
    return pool(conv_norm_act(x, ops, 64, 7, strides=2, name="stem_conv"), ops)


def _deep_stem(x: KerasTensor, ops: Ops, *, pool: Stem) -> KerasTensor:
    """Build three 3x3 convolutions instead of the 7x7 one."""
    x = conv_norm_act(x, ops, 64, 3, strides=2, name="stem_conv1")
    x = conv_norm_act(x, ops, 64, 3, name="stem_conv2")
    return pool(conv_norm_act(x, ops, 128, 3, name="stem_conv3"), ops)


_BASIC = BasicBlock(excite=_activate_and_excite)
_BOTTLENECK = BottleneckBlock(excite=_excite, strided=1)
_RESNEXT = BottleneckBlock(excite=_excite, groups=32, width=4)
_SENET = BottleneckBlock(excite=_excite, groups=64, width=4, narrowing=2, projection=3)
_TORCH_BASIC = BasicBlock(excite=partial(_excite, at_least=8))
_TORCH_BOTTLENECK = BottleneckBlock(excite=_excite)


def _row(
    name: str,
    depth: int,
    block: BasicBlock | BottleneckBlock,
    stem: Callable[..., KerasTensor],
    params: int,
    macs: int,
    top1: float | None = None,
    top5: float | None = None,
) -> ModelSpec:
    twin = name.removesuffix(".torch")
    authors = twin == name
    return ModelSpec(
        name,
        family="senet",
        features=partial(
            features,
            block=block,
            stem=partial(stem, pool=_caffe_pool if authors else _torch_pool),
            depths=DEPTHS[depth],
        ),
        paper="Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507",
        year=2017,
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="torch",
        design={**DESIGN, "dropout": 0.2 if twin == "senet154" else 0.0},  # the appendix has it for SENet-154 alone
        torch={"timm_legacy": f"legacy_{twin}"} if authors else {"timm": twin},
        top1=top1,
        top5=top5,
    )


register(
    # depth, block, stem, parameters, multiply-adds, top-1, top-5 (timm, for the authors' weights)
    _row("seresnet18", 18, _BASIC, _stem, 11_778_592, 1_814_160_384, 71.8, 90.3),
    _row("seresnet34", 34, _BASIC, _stem, 21_958_868, 3_663_918_592, 74.8, 92.1),
    _row("seresnet50", 50, _BOTTLENECK, _stem, 28_088_024, 3_860_488_192, 77.6, 93.8),
    _row("seresnet101", 101, _BOTTLENECK, _stem, 49_326_872, 7_574_937_600, 78.4, 94.3),
    _row("seresnet152", 152, _BOTTLENECK, _stem, 66_821_848, 11_288_993_792, 78.7, 94.4),
    _row("seresnext50_32x4d", 50, _RESNEXT, _stem, 27_559_896, 4_232_994_816, 79.1, 94.4),
    _row("seresnext101_32x4d", 101, _RESNEXT, _stem, 48_955_416, 7_974_739_968, 80.2, 95.0),
    _row("senet154", 152, _SENET, _deep_stem, 115_088_984, 20_688_363_520, 81.3, 95.5),
    # The same, but accuracies are of weights trained and tested at 224 (timm)
    _row("seresnet18.torch", 18, _TORCH_BASIC, _stem, 11_779_624, 1_814_161_408),
    _row("seresnet34.torch", 34, _TORCH_BASIC, _stem, 21_960_416, 3_663_920_128),
    _row("seresnet50.torch", 50, _TORCH_BOTTLENECK, _stem, 28_088_024, 4_091_699_200, 77.0, 93.1),
    _row("seresnet101.torch", 101, _TORCH_BOTTLENECK, _stem, 49_326_872, 7_806_148_608),
    _row("seresnet152.torch", 152, _TORCH_BOTTLENECK, _stem, 66_821_848, 11_520_204_800),
    _row("seresnext50_32x4d.torch", 50, _RESNEXT, _stem, 27_559_896, 4_232_994_816, 79.9, 94.8),
    _row("seresnext101_32x4d.torch", 101, _RESNEXT, _stem, 48_955_416, 7_974_739_968, 80.9, 95.3),
    _row("senet154.torch", 152, _SENET, _deep_stem, 115_088_984, 20_688_363_520, 81.2, 95.4),
)
