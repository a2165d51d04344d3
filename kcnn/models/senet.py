"""SE-ResNet, SE-ResNeXt and SENet-154 (Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018).

Figure 3 with a reduction of 16: the channels of each residual branch are weighed before they are added (table 1;
SENet-154: appendix). The networks are those of the authors' release: a stage's stride in its first 1x1 convolution (in
the 3x3 where that is grouped), and Caffe's pooling, which rounds sizes up. SE-ResNet-18/34, which it does not have, are
the ports' (timm's "legacy_" networks): an activation more in front of the squeeze.

`.torch` are timm's own: the stride always in the 3x3 convolution, pooling with symmetric padding, at least 8 channels
in the middle of the squeeze.
"""

from functools import partial
from typing import Any

from kcnn.models.resnet import DEPTHS, DESIGN, features
from kcnn.models.spec import MODELS, ModelSpec
from kcnn.nn.blocks import Ops, ceil_pool, conv_norm_act, squeeze_excite
from kcnn.nn.residual import basic, bottleneck


def _excite(x: Any, ops: Ops, *, name: str, at_least: int = 1) -> Any:
    return squeeze_excite(x, ops, max(x.shape[-1] // 16, at_least), name=name)


def _activate_and_excite(x: Any, ops: Ops, *, name: str) -> Any:
    return _excite(ops.activate(x, name=f"{name}_input_act"), ops, name=name)


def _caffe_pool(x: Any, ops: Ops) -> Any:
    return ceil_pool(x, name="stem_pool")


def _torch_pool(x: Any, ops: Ops) -> Any:
    return ops.max_pool(x, 3, 2, name="stem_pool")


def _stem(x: Any, ops: Ops, *, pool: Any) -> Any:
    """A 7x7 convolution and max pooling; output stride 4."""
    return pool(conv_norm_act(x, ops, 64, 7, strides=2, name="stem_conv"), ops)


def _deep_stem(x: Any, ops: Ops, *, pool: Any) -> Any:
    """Three 3x3 convolutions instead of the 7x7 one."""
    x = conv_norm_act(x, ops, 64, 3, strides=2, name="stem_conv1")
    x = conv_norm_act(x, ops, 64, 3, name="stem_conv2")
    return pool(conv_norm_act(x, ops, 128, 3, name="stem_conv3"), ops)


_basic = partial(basic, excite=_activate_and_excite)
_bottleneck = partial(bottleneck, excite=_excite, strided=1)
_resnext = partial(bottleneck, excite=_excite, groups=32, width=4)
_senet = partial(bottleneck, excite=_excite, groups=64, width=4, narrowing=2, projection=3)
_torch_basic = partial(basic, excite=partial(_excite, at_least=8))
_torch_bottleneck = partial(bottleneck, excite=_excite)

_AUTHORS = (
    # name, depth, block, stem, parameters, multiply-adds, top-1, top-5 (timm, for the authors' weights)
    ("seresnet18", 18, _basic, _stem, 11_778_592, 1_814_160_384, 71.8, 90.3),
    ("seresnet34", 34, _basic, _stem, 21_958_868, 3_663_918_592, 74.8, 92.1),
    ("seresnet50", 50, _bottleneck, _stem, 28_088_024, 3_860_488_192, 77.6, 93.8),
    ("seresnet101", 101, _bottleneck, _stem, 49_326_872, 7_574_937_600, 78.4, 94.3),
    ("seresnet152", 152, _bottleneck, _stem, 66_821_848, 11_288_993_792, 78.7, 94.4),
    ("seresnext50_32x4d", 50, _resnext, _stem, 27_559_896, 4_232_994_816, 79.1, 94.4),
    ("seresnext101_32x4d", 101, _resnext, _stem, 48_955_416, 7_974_739_968, 80.2, 95.0),
    ("senet154", 152, _senet, _deep_stem, 115_088_984, 20_688_363_520, 81.3, 95.5),
)
_TIMM = (
    # name, depth, block, stem, parameters, multiply-adds, top-1, top-5 of weights trained and tested at 224 (timm)
    ("seresnet18", 18, _torch_basic, _stem, 11_779_624, 1_814_161_408, None, None),
    ("seresnet34", 34, _torch_basic, _stem, 21_960_416, 3_663_920_128, None, None),
    ("seresnet50", 50, _torch_bottleneck, _stem, 28_088_024, 4_091_699_200, 77.0, 93.1),
    ("seresnet101", 101, _torch_bottleneck, _stem, 49_326_872, 7_806_148_608, None, None),
    ("seresnet152", 152, _torch_bottleneck, _stem, 66_821_848, 11_520_204_800, None, None),
    ("seresnext50_32x4d", 50, _resnext, _stem, 27_559_896, 4_232_994_816, 79.9, 94.8),
    ("seresnext101_32x4d", 101, _resnext, _stem, 48_955_416, 7_974_739_968, 80.9, 95.3),
    ("senet154", 152, _senet, _deep_stem, 115_088_984, 20_688_363_520, 81.2, 95.4),
)

for _rows, _suffix, _project, _prefix, _pool in (
    (_AUTHORS, "", "timm_legacy", "legacy_", _caffe_pool),
    (_TIMM, ".torch", "timm", "", _torch_pool),
):
    for _name, _depth, _block, _stem_of, _params, _macs, _top1, _top5 in _rows:
        MODELS.add(
            f"{_name}{_suffix}",
            ModelSpec(
                name=f"{_name}{_suffix}",
                family="senet",
                features=partial(features, block=_block, stem=partial(_stem_of, pool=_pool), depths=DEPTHS[_depth]),
                paper="Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, arXiv:1709.01507",
                year=2017,
                input_size=224,
                min_size=32,
                params=_params,
                macs=_macs,
                preprocessing="torch",
                # the appendix has dropout for SENet-154 alone
                design={**DESIGN, "dropout": 0.2 if _name == "senet154" else 0.0},
                torch={_project: f"{_prefix}{_name}"},
                top1=_top1,
                top5=_top5,
            ),
        )
