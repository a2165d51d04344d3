"""MobileNetV3 (Howard et al., "Searching for MobileNetV3", ICCV 2019).

Tables 1 (large) and 2 (small), at any width multiplier (`width=`), which leaves the stem and the head's hidden layer as
they are. Squeeze-and-excitation has a quarter of the expanded channels. `activation` stands in for hard-swish (HS). The
minimalistic rows are the reference implementation's: no squeeze-and-excitation, ReLU and 3x3 throughout.

The plain rows are keras.applications'. `.torch` is torchvision's, with symmetric padding and pixels normalised by mean
and deviation; `.timm` is timm's, with an epsilon of 1e-5 besides.
"""

import dataclasses
import itertools
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras

from kcnn.models.mobilenet_v2 import inverted_residual
from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, check_width, conv_norm_act, make_divisible, squeeze_excite
from kcnn.nn.heads import logits

# One row: a block.
_Table = tuple[tuple[int, int, int, bool, str, int], ...]

_LARGE: _Table = (
    # kernel, expansion size, channels, squeeze-and-excitation, nonlinearity, stride
    (3, 16, 16, False, "RE", 1),
    (3, 64, 24, False, "RE", 2),
    (3, 72, 24, False, "RE", 1),
    (5, 72, 40, True, "RE", 2),
    (5, 120, 40, True, "RE", 1),
    (5, 120, 40, True, "RE", 1),
    (3, 240, 80, False, "HS", 2),
    (3, 200, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 184, 80, False, "HS", 1),
    (3, 480, 112, True, "HS", 1),
    (3, 672, 112, True, "HS", 1),
    (5, 672, 160, True, "HS", 2),
    (5, 960, 160, True, "HS", 1),
    (5, 960, 160, True, "HS", 1),
)
_SMALL: _Table = (
    (3, 16, 16, True, "RE", 2),
    (3, 72, 24, False, "RE", 2),
    (3, 88, 24, False, "RE", 1),
    (5, 96, 40, True, "HS", 2),
    (5, 240, 40, True, "HS", 1),
    (5, 240, 40, True, "HS", 1),
    (5, 120, 48, True, "HS", 1),
    (5, 144, 48, True, "HS", 1),
    (5, 288, 96, True, "HS", 2),
    (5, 576, 96, True, "HS", 1),
    (5, 576, 96, True, "HS", 1),
)


def _minimalistic(table: _Table) -> _Table:
    return tuple((3, expanded, channels, False, "RE", strides) for _, expanded, channels, _, _, strides in table)


def _squeeze(x: Any, ops: Ops, *, name: str) -> Any:
    """Section 5.2 and 5.3: to a quarter of the channels, gated by hard sigmoid."""
    return squeeze_excite(x, ops, make_divisible(x.shape[-1] / 4), gate="hard_sigmoid", name=name)


def features(x: Any, ops: Ops, *, table: _Table, width: float) -> Any:
    """A 3x3 convolution at stride 2, inverted residuals, a 1x1 convolution; a stage is blocks of as many channels.

    Output stride 32.
    """
    check_width(width)
    x = conv_norm_act(x, ops, 16, 3, strides=2, name="stem_conv")
    before, count, stage = 16, 0, 0
    for channels, rows in itertools.groupby(table, key=lambda row: row[2]):
        stage += 1
        for index, (kernel_size, expanded, _, squeezed, nonlinearity, strides) in enumerate(rows, start=1):
            count += 1
            x = inverted_residual(
                x,
                dataclasses.replace(ops, activation="relu") if nonlinearity == "RE" else ops,
                make_divisible(channels * width),
                expansion=expanded / before,
                strides=strides,
                depth=count / len(table),
                name=f"stage{stage}_block{index}",
                kernel_size=kernel_size,
                squeeze=_squeeze if squeezed else None,
            )
            before = channels
    return conv_norm_act(x, ops, make_divisible(6 * x.shape[-1]), 1, name=f"stage{stage + 1}_conv")


def _head(x: Any, ops: Ops, num_classes: int, *, units: int) -> Any:
    """Figure 5: pooling first, then the last hidden layer, without normalisation."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dense(units, kernel_initializer=ops.kernel_initializer, name="head_fc")(x)
    x = ops.activate(x, name="head_fc_act")
    if ops.dropout:
        x = keras.layers.Dropout(ops.dropout, name="head_dropout")(x)
    return logits(x, num_classes)


_SIZES = {"large": (_LARGE, 1280), "small": (_SMALL, 1024)}
_KERAS = {"activation": "hard_silu"}
_MINIMALISTIC = {"activation": "relu"}
_TORCHVISION = {**_KERAS, "padding": "symmetric"}
_TIMM = {**_TORCHVISION, "norm_epsilon": 1e-5}
_HASHES = {
    # of keras.applications' weights
    "large_224_1.0": "59e551e166be033d707958cf9e29a6a7",
    "large_224_0.75": "765b44a33ad4005b3ac83185abf1d0eb",
    "large_minimalistic_224_1.0": "675e7b876c45c57e9e63e6d90a36599c",
    "small_224_1.0": "8768d4c2e7dee89b9d02b2d03d65d862",
    "small_224_0.75": "cb65d4e5be93758266aa0a7f2c6708b7",
    "small_minimalistic_224_1.0": "99cd97fb2fcdad2bf028eb838de69e37",
}
_ROWS = (
    # size, rest of the name, width, design, its name in torchvision or timm, parameters, multiply-adds,
    # top-1 and top-5 (timm's results, of keras.applications' weights too; torchvision's first weights)
    ("large", "", 1.0, _KERAS, "tf_mobilenetv3_large_100", 5_483_032, 216_589_760, 75.52, 92.59),
    ("large", "_0.75", 0.75, _KERAS, "tf_mobilenetv3_large_075", 3_993_528, 154_560_624, 73.43, 91.35),
    (
        "large",
        "_minimalistic",
        1.0,
        _MINIMALISTIC,
        "tf_mobilenetv3_large_minimal_100",
        3_924_288,
        209_136_704,
        72.26,
        90.64,
    ),
    ("large", ".torch", 1.0, _TORCHVISION, "mobilenet_v3_large", 5_483_032, 216_589_760, 74.04, 91.34),
    ("large", ".timm", 1.0, _TIMM, "mobilenetv3_large_100", 5_483_032, 216_589_760, 75.77, 92.54),
    ("large", "_0.75.timm", 0.75, _TIMM, "mobilenetv3_large_075", 3_993_528, 154_560_624, None, None),
    ("small", "", 1.0, _KERAS, "tf_mobilenetv3_small_100", 2_542_856, 56_510_400, 67.92, 87.67),
    ("small", "_0.75", 0.75, _KERAS, "tf_mobilenetv3_small_075", 2_041_872, 43_399_344, 65.73, 86.13),
    (
        "small",
        "_minimalistic",
        1.0,
        _MINIMALISTIC,
        "tf_mobilenetv3_small_minimal_100",
        2_044_736,
        52_288_448,
        62.89,
        84.24,
    ),
    ("small", ".torch", 1.0, _TORCHVISION, "mobilenet_v3_small", 2_542_856, 56_510_400, 67.67, 87.40),
    ("small", ".timm", 1.0, _TIMM, "mobilenetv3_small_100", 2_542_856, 56_510_400, 67.66, 87.64),
    ("small", "_0.75.timm", 0.75, _TIMM, "mobilenetv3_small_075", 2_041_872, 43_399_344, 65.23, 85.45),
    ("small", "_0.5.timm", 0.5, _TIMM, "mobilenetv3_small_050", 1_593_224, 24_188_688, 57.91, 80.18),
)


def _application(size: str, width: float, design: Mapping[str, Any]) -> Application | None:
    if "padding" in design:
        return None
    minimalistic = design is _MINIMALISTIC
    file = f"{size}_minimalistic_224_{width}" if minimalistic else f"{size}_224_{width}"
    return Application(
        f"MobileNetV3{size.title()}",
        f"mobilenet_v3/weights_mobilenet_v3_{file}_float.h5",
        file_hash=_HASHES[file],
        arguments={"alpha": width, "minimalistic": minimalistic},
    )


for _size, _rest, _width, _design, _torch, _params, _macs, _top1, _top5 in _ROWS:
    _table, _units = _SIZES[_size]
    MODELS.add(
        f"mobilenetv3{_size}{_rest}",
        ModelSpec(
            name=f"mobilenetv3{_size}{_rest}",
            family="mobilenetv3",
            features=partial(features, table=_minimalistic(_table) if _design is _MINIMALISTIC else _table),
            head=partial(_head, units=_units),
            paper="Howard et al., Searching for MobileNetV3, ICCV 2019, arXiv:1905.02244",
            year=2019,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="torch" if "padding" in _design else "tf",
            design={
                "width": _width,
                "norm": "batch",
                "bn_momentum": 0.99,
                "kernel_initializer": "he_normal",
                "dropout": 0.2,
                "drop_path": 0.0,
                **_design,
            },
            application=_application(_size, _width, _design),
            torch={"torchvision" if _design is _TORCHVISION else "timm": _torch},
            top1=_top1,
            top5=_top5,
            note="The reference implementation's table has 66 M multiply-adds and 2.9 M parameters for the small one, "
            "before the paper's last revision (56 M and 2.5 M).",
        ),
    )
