"""ResNet v2, with pre-activation (He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016).

Figure 4(e): each convolution comes behind its normalisation and activation, and nothing is on the shortcuts.

ResNet-50/101/152 v2 are keras.applications', to take its weights. Deviations, as there: the stride of a stage is in the
3x3 convolution of its last block, whose shortcut is then a subsampling; nothing normalises the stem; convolutions
without batch norm behind them have biases; epsilon is 1.001e-5.

ResNet-18/34 v2 and `.torch` are timm's: the stride is in the first block, as in the paper, and there are no biases.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from kcnn.errors import UserError
from kcnn.models.resnet import DEPTHS, DESIGN
from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act, pad
from kcnn.nn.residual import identity, projects, residual_stages


def _preactivate(x: Any, ops: Ops, *, name: str) -> Any:
    return ops.activate(ops.normalize(x, name=f"{name}_norm"), name=f"{name}_act")


def _shortcut(
    x: Any, active: Any, ops: Ops, channels: int, option: str, *, strides: int, name: str, **conv: Any
) -> Any:
    """Of `x` itself, or a projection of what is activated."""
    if projects(x, channels, option):
        return ops.conv(active, channels, 1, strides=strides, name=f"{name}_shortcut", **conv)
    return identity(x, channels, strides=strides, name=f"{name}_shortcut")


def basic(
    x: Any,
    ops: Ops,
    channels: int,
    *,
    strides: int,
    depth: float,
    name: str,
    shortcut: str = "B",
    block_dropout: float = 0.0,
) -> Any:
    """Two 3x3 convolutions, with dropout between them.

    Raises:
        UserError: `block_dropout` is out of range.
    """
    if not isinstance(block_dropout, int | float) or not 0 <= block_dropout < 1:
        raise UserError(f"block_dropout {block_dropout!r}: expected a number from 0 to less than 1")
    active = _preactivate(x, ops, name=f"{name}_preact")
    branch = conv_norm_act(active, ops, channels, 3, strides=strides, name=f"{name}_conv1")
    if block_dropout:
        branch = keras.layers.Dropout(block_dropout, name=f"{name}_dropout")(branch)
    branch = ops.conv(branch, channels, 3, name=f"{name}_conv2")
    x = _shortcut(x, active, ops, channels, shortcut, strides=strides, name=name)
    return ops.residual(x, branch, depth=depth, name=name)


def bottleneck(
    x: Any,
    ops: Ops,
    channels: int,
    *,
    strides: int,
    depth: float,
    name: str,
    shortcut: str = "B",
    use_bias: bool = False,
) -> Any:
    """1x1, 3x3, and 1x1 to four times `channels`; `use_bias` where no normalisation is behind."""
    active = _preactivate(x, ops, name=f"{name}_preact")
    branch = conv_norm_act(active, ops, channels, 1, name=f"{name}_conv1")
    branch = conv_norm_act(branch, ops, channels, 3, strides=strides, name=f"{name}_conv2")
    branch = ops.conv(branch, 4 * channels, 1, use_bias=use_bias, name=f"{name}_conv3")
    x = _shortcut(x, active, ops, 4 * channels, shortcut, strides=strides, use_bias=use_bias, name=name)
    return ops.residual(x, branch, depth=depth, name=name)


def keras_stem(x: Any, ops: Ops) -> Any:
    """A 7x7 convolution, zeros around it that can win the max pooling; output stride 4."""
    x = ops.conv(x, 64, 7, strides=2, use_bias=True, name="stem_conv")
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(pad(x, 1, name="stem_pool_pad"))


def torch_stem(x: Any, ops: Ops) -> Any:
    """A 7x7 convolution, max pooling that knows no zeros around it; output stride 4."""
    x = ops.conv(x, 64, 7, strides=2, name="stem_conv")
    return ops.max_pool(x, 3, 2, name="stem_pool")


def features(
    x: Any,
    ops: Ops,
    *,
    block: Callable[..., Any],
    stem: Callable[..., Any],
    depths: tuple[int, ...],
    shortcut: str = "B",
    **stages: Any,
) -> Any:
    """A stem, the stages of `residual_stages`, and the activation that the last block is without."""
    x = residual_stages(stem(x, ops), ops, partial(block, shortcut=shortcut), depths=depths, **stages)
    return _preactivate(x, ops, name=f"stage{len(depths)}_post")


_PAPER = "He et al., Identity Mappings in Deep Residual Networks, ECCV 2016, arXiv:1603.05027"
_KERAS = (
    # depth, parameters, multiply-adds, md5 of the weights, top-1, top-5 (keras.io)
    (50, 25_568_360, 3_482_255_360, "3ef43a0b657b3be2300d5770ece849e0", 76.0, 93.0),
    (101, 44_577_896, 7_194_476_544, "6343647c601c52e1368623803854d971", 77.2, 93.8),
    (152, 60_236_904, 10_906_697_728, "a49b44d1979771252814e80f8ec446f9", 78.0, 94.2),
)
_TIMM = (
    # name, depth, block, parameters, multiply-adds
    ("resnet18v2", 18, basic, 11_687_720, 1_814_073_344),
    ("resnet34v2", 34, basic, 21_795_880, 3_663_761_408),
    ("resnet50v2.torch", 50, bottleneck, 25_549_352, 4_089_184_256),
    ("resnet101v2.torch", 101, bottleneck, 44_541_480, 7_801_405_440),
    ("resnet152v2.torch", 152, bottleneck, 60_185_128, 11_513_626_624),
)

for _depth, _params, _macs, _md5, _top1, _top5 in _KERAS:
    _name = f"resnet{_depth}v2"
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="resnetv2",
            features=partial(
                features,
                block=partial(bottleneck, use_bias=True),
                stem=keras_stem,
                depths=DEPTHS[_depth],
                strides=(2, 2, 2, 1),
                strided=-1,
            ),
            paper=_PAPER,
            year=2016,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="tf",
            design={**DESIGN, "norm_epsilon": 1.001e-5, "shortcut": "B"},
            application=Application(
                f"ResNet{_depth}V2", f"resnet/{_name}_weights_tf_dim_ordering_tf_kernels.h5", file_hash=_md5
            ),
            top1=_top1,
            top5=_top5,
            note="Fewer multiply-adds than with the stride in a stage's first block.",
        ),
    )

for _name, _depth, _block, _params, _macs in _TIMM:
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="resnetv2",
            features=partial(features, block=_block, stem=torch_stem, depths=DEPTHS[_depth]),
            paper=_PAPER,
            year=2016,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="tf",
            design={**DESIGN, "shortcut": "B"},
            torch={"timm": f"resnetv2_{_depth}"},
            note="The paper has no figures for ImageNet's networks of these depths but ResNet-152 and 200.",
        ),
    )
