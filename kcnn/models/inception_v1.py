"""GoogLeNet (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015).

Table 1, with figure 3's local response normalisation in the stem, and section 5's two auxiliary classifiers
(`aux_heads`). What the paper leaves open is as in Caffe's bvlc_googlenet: the constants of the response normalisation,
the scale of the pixels, the initial weights. `norm="batch"` replaces the response normalisation and the biases.

`googlenet.torch` is torchvision's: batch norm, 3x3 in the place of 5x5, poolings that overhang the far side.
"""

from functools import partial
from typing import Any

import keras
from keras import KerasTensor

from kcnn.models.spec import DesignValue, ModelSpec, register
from kcnn.nn.blocks import Ops, ceil_pool, conv_norm_act
from kcnn.nn.heads import logits
from kcnn.nn.normalization import LocalResponseNorm

_TABLE1 = (
    # name  1x1  3x3 reduce, 3x3  5x5 reduce, 5x5  pool projection
    ("3a", 64, 96, 128, 16, 32, 32),
    ("3b", 128, 128, 192, 32, 96, 64),
    ("4a", 192, 96, 208, 16, 48, 64),
    ("4b", 160, 112, 224, 24, 64, 64),
    ("4c", 128, 128, 256, 24, 64, 64),
    ("4d", 112, 144, 288, 32, 64, 64),
    ("4e", 256, 160, 320, 32, 128, 128),
    ("5a", 256, 160, 320, 32, 128, 128),
    ("5b", 384, 192, 384, 48, 128, 128),
)


def chain(x: KerasTensor, ops: Ops, name: str, *convs: tuple[Any, ...], use_bias: bool = False) -> KerasTensor:
    """Build convolutions one after the other.

    Args:
        x: float [N, H, W, C].
        ops: the operations.
        name: the first words of the layers' names.
        convs: (filters, kernel size[, strides[, padding]]) of each.
        use_bias: whether they have biases.
    """
    for index, (filters, kernel_size, *rest) in enumerate(convs, start=1):
        options = dict(zip(("strides", "padding"), rest, strict=False))
        x = conv_norm_act(x, ops, filters, kernel_size, use_bias=use_bias, name=f"{name}_conv{index}", **options)
    return x


def concat(name: str, *branches: KerasTensor) -> KerasTensor:
    """Join branches, [N, H, W, C1], [N, H, W, C2], ... → [N, H, W, C1 + C2 + ...]."""
    return keras.layers.Concatenate(name=f"{name}_concat")(list(branches))


def halve(x: KerasTensor, ops: Ops, pool_size: int, *, name: str) -> KerasTensor:
    """Build max pooling at stride 2; in the place of symmetric padding Caffe's."""
    if ops.padding == "symmetric":
        return ceil_pool(x, pool_size, name=name)
    return keras.layers.MaxPooling2D(pool_size, 2, "same", name=name)(x)


def _inception(x: KerasTensor, ops: Ops, name: str, filters: tuple[int, ...], *, kernel_size: int) -> KerasTensor:
    """Build figure 2b."""
    conv1, reduce3, conv3, reduce5, conv5, projection = filters
    use_bias = ops.norm == "none"
    pool = keras.layers.MaxPooling2D(3, 1, "same", name=f"{name}_pool")(x)
    return concat(
        name,
        chain(x, ops, f"{name}_1x1", (conv1, 1), use_bias=use_bias),
        chain(x, ops, f"{name}_3x3", (reduce3, 1), (conv3, 3), use_bias=use_bias),
        chain(x, ops, f"{name}_5x5", (reduce5, 1), (conv5, kernel_size), use_bias=use_bias),
        chain(pool, ops, f"{name}_pool", (projection, 1), use_bias=use_bias),
    )


def features(x: KerasTensor, ops: Ops, *, kernel_size: int, last_pool: int) -> KerasTensor:
    """Build the stem; inception (3a) and on (stage1), (4a) and on (stage2), (5a) and on (stage3); output stride 32."""
    conv = partial(conv_norm_act, ops=ops, use_bias=ops.norm == "none")
    x = conv(x, filters=64, kernel_size=7, strides=2, name="stem_conv1")
    x = halve(x, ops, 3, name="stem_pool1")
    if ops.norm == "none":
        x = LocalResponseNorm(2, 1.0, 1e-4 / 5, 0.75, name="stem_lrn1")(x)
    x = conv(x, filters=64, kernel_size=1, name="stem_conv2")
    x = conv(x, filters=192, kernel_size=3, name="stem_conv3")
    if ops.norm == "none":
        x = LocalResponseNorm(2, 1.0, 1e-4 / 5, 0.75, name="stem_lrn2")(x)
    x = halve(x, ops, 3, name="stem_pool2")
    for name, *filters in _TABLE1:
        stage = int(name[0]) - 2
        if name in ("4a", "5a"):
            x = halve(x, ops, 3 if name == "4a" else last_pool, name=f"stage{stage}_pool")
        x = _inception(x, ops, f"stage{stage}_inception{name}", tuple(filters), kernel_size=kernel_size)
    return x


def _auxiliary(x: KerasTensor, ops: Ops, num_classes: int, *, name: str, adaptive: bool) -> KerasTensor:
    """Build section 5's head: the features averaged to 4x4, a 1x1 convolution, two dense layers."""
    if adaptive:
        x = keras.layers.AdaptiveAveragePooling2D(4, name=f"{name}_pool")(x)
    else:
        x = keras.layers.AveragePooling2D([min(5, side) for side in x.shape[1:3]], 3, name=f"{name}_pool")(x)
    x = conv_norm_act(x, ops, 128, 1, use_bias=ops.norm == "none", name=f"{name}_conv")
    x = keras.layers.Flatten(name=f"{name}_flatten")(x)
    x = keras.layers.Dense(1024, kernel_initializer=ops.kernel_initializer, name=f"{name}_fc")(x)
    x = keras.layers.Dropout(0.7, name=f"{name}_dropout")(ops.activate(x, name=f"{name}_fc_act"))
    return logits(x, ops, num_classes, name=f"{name}_logits")


_PAPER = "Szegedy et al., Going Deeper with Convolutions, CVPR 2015, arXiv:1409.4842"
_TAPS = ("stage2_inception4a_concat", "stage2_inception4d_concat")
_DESIGN: dict[str, DesignValue] = {"bn_momentum": 0.99, "activation": "relu", "aux_heads": False}

_row = partial(ModelSpec, family="googlenet", paper=_PAPER, year=2014, input_size=224, min_size=32)

register(
    _row(
        "googlenet",
        features=partial(features, kernel_size=5, last_pool=3),
        params=6_998_552,
        macs=1_582_671_872,
        preprocessing="caffe",
        design={
            **_DESIGN,
            "norm": "none",
            "padding": "same",
            "kernel_initializer": "lecun_uniform",  # Caffe's "xavier"
            "dropout": 0.4,
            "dropconnect": 0.0,
        },
        top5=89.9,
        auxiliary={tap: partial(_auxiliary, adaptive=False) for tap in _TAPS},
        note="Table 1 has 1.5 billion multiply-adds, with 34 million for the first convolution, whose 7x7x3x64 weights "
        "take 118 million. The top-5 is that of one crop in table 3.",
    ),
    _row(
        "googlenet.torch",
        features=partial(features, kernel_size=3, last_pool=2),
        params=6_624_904,
        macs=1_498_376_192,
        preprocessing="tf",
        design={
            **_DESIGN,
            "norm": "batch",
            "padding": "symmetric",
            "kernel_initializer": "he_normal",
            "dropout": 0.2,
            "dropconnect": 0.0,
        },
        torch={"torchvision": "googlenet"},
        top1=69.778,
        top5=89.530,
        auxiliary={tap: partial(_auxiliary, adaptive=True) for tap in _TAPS},
        note="Pixels are in -1...1, as torchvision's transform_input makes them for its weights.",
    ),
)
