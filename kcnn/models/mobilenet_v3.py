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

import keras
from keras import KerasTensor

from kcnn.models.mobilenet_v2 import InvertedResidual
from kcnn.models.spec import Application, DesignValue, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act, make_divisible, squeeze_excite
from kcnn.nn.heads import logits
from kcnn.nn.stages import block_positions

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


def _squeeze(x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    """Build sections 5.2 and 5.3: to a quarter of the channels, gated by hard sigmoid."""
    return squeeze_excite(x, ops, make_divisible(x.shape[-1] / 4), gate="hard_sigmoid", name=name)


def features(x: KerasTensor, ops: Ops, *, table: _Table, width: float) -> KerasTensor:
    """Build a 3x3 convolution at stride 2, inverted residuals, a 1x1 convolution; output stride 32.

    Args:
        x: float [N, H, W, 3].
        ops: the operations.
        table: table 1 or 2; the blocks with as many channels are a stage.
        width: multiplier of the channels.
    """
    relu = dataclasses.replace(ops, activation="relu")
    stages = [list(rows) for _, rows in itertools.groupby(table, key=lambda row: row[2])]
    depths, strides = [len(rows) for rows in stages], [rows[0][-1] for rows in stages]
    x = conv_norm_act(x, ops, 16, 3, strides=2, name="stem_conv")
    before = 16
    for at in block_positions(depths, strides, drop_path=ops.drop_path):
        kernel_size, expanded, channels, squeezed, nonlinearity, _ = stages[at.stage - 1][at.index - 1]
        block = InvertedResidual(expanded / before, kernel_size, _squeeze if squeezed else None)
        x = block(x, relu if nonlinearity == "RE" else ops, make_divisible(channels * width), at)
        before = channels
    return conv_norm_act(x, ops, make_divisible(6 * x.shape[-1]), 1, name=f"stage{len(stages) + 1}_conv")


def _head(x: KerasTensor, ops: Ops, num_classes: int, *, units: int) -> KerasTensor:
    """Build figure 5: pooling first, then the last hidden layer, without normalisation."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = keras.layers.Dense(units, kernel_initializer=ops.kernel_initializer, name="head_fc")(x)
    x = ops.activate(x, name="head_fc_act")
    if ops.dropout:
        x = keras.layers.Dropout(ops.dropout, name="head_dropout")(x)
    return logits(x, ops, num_classes)


@dataclasses.dataclass(frozen=True)
class _Size:
    """A table, its minimalistic form, and the units of the head's hidden layer."""

    name: str
    table: _Table
    units: int
    minimalistic: bool = False


_L, _S = _Size("Large", _LARGE, 1280), _Size("Small", _SMALL, 1024)
_L_MINIMAL = _Size("Large", _minimalistic(_LARGE), 1280, minimalistic=True)
_S_MINIMAL = _Size("Small", _minimalistic(_SMALL), 1024, minimalistic=True)


def _row(
    name: str,
    size: _Size,
    torch: Mapping[str, str],
    params: int,
    macs: int,
    top1: float | None = None,
    top5: float | None = None,
    *,
    application: Application | None = None,
    **design: DesignValue,
) -> ModelSpec:
    return ModelSpec(
        name,
        family="mobilenetv3",
        features=partial(features, table=size.table),
        head=partial(_head, units=size.units),
        paper="Howard et al., Searching for MobileNetV3, ICCV 2019, arXiv:1905.02244",
        year=2019,
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="tf" if application else "torch",
        design={
            "width": 1.0,
            "norm": "batch",
            "bn_momentum": 0.99,
            "kernel_initializer": "he_normal",
            "dropout": 0.2,
            "dropconnect": 0.0,
            "drop_path": 0.0,
            "activation": "relu" if size.minimalistic else "hard_silu",
            **design,
        },
        application=application,
        torch=torch,
        top1=top1,
        top5=top5,
        note="The reference implementation's table has 66 M multiply-adds and 2.9 M parameters for the small one, "
        "before the paper's last revision (56 M and 2.5 M).",
    )


def _keras(
    name: str, size: _Size, width: float, timm: str, params: int, macs: int, top1: float, top5: float, md5: str
) -> ModelSpec:
    file = f"{size.name.lower()}{'_minimalistic' * size.minimalistic}_224_{width}"
    application = Application(
        f"MobileNetV3{size.name}",
        f"mobilenet_v3/weights_mobilenet_v3_{file}_float.h5",
        file_hash=md5,
        arguments={"alpha": width, "minimalistic": size.minimalistic},
    )
    return _row(name, size, {"timm": timm}, params, macs, top1, top5, application=application, width=width)


_torchvision = partial(_row, padding="symmetric")
_timm = partial(_row, padding="symmetric", norm_epsilon=1e-5)

register(
    # size, width, its name in timm, parameters, multiply-adds, top-1 and top-5 (timm's results, of keras.applications'
    # weights), md5 of these weights
    _keras("mobilenetv3large", _L, 1.0, "tf_mobilenetv3_large_100", 5_483_032, 216_589_760, 75.52, 92.59,
           "59e551e166be033d707958cf9e29a6a7"),
    _keras("mobilenetv3large_0.75", _L, 0.75, "tf_mobilenetv3_large_075", 3_993_528, 154_560_624, 73.43, 91.35,
           "765b44a33ad4005b3ac83185abf1d0eb"),
    _keras("mobilenetv3large_minimalistic", _L_MINIMAL, 1.0, "tf_mobilenetv3_large_minimal_100",
           3_924_288, 209_136_704, 72.26, 90.64, "675e7b876c45c57e9e63e6d90a36599c"),
    _keras("mobilenetv3small", _S, 1.0, "tf_mobilenetv3_small_100", 2_542_856, 56_510_400, 67.92, 87.67,
           "8768d4c2e7dee89b9d02b2d03d65d862"),
    _keras("mobilenetv3small_0.75", _S, 0.75, "tf_mobilenetv3_small_075", 2_041_872, 43_399_344, 65.73, 86.13,
           "cb65d4e5be93758266aa0a7f2c6708b7"),
    _keras("mobilenetv3small_minimalistic", _S_MINIMAL, 1.0, "tf_mobilenetv3_small_minimal_100",
           2_044_736, 52_288_448, 62.89, 84.24, "99cd97fb2fcdad2bf028eb838de69e37"),
)  # fmt: skip
register(
    # size, its name there, parameters, multiply-adds, top-1 and top-5 (torchvision's first weights)
    _torchvision("mobilenetv3large.torch", _L, {"torchvision": "mobilenet_v3_large"},
                 5_483_032, 216_589_760, 74.04, 91.34),
    _torchvision("mobilenetv3small.torch", _S, {"torchvision": "mobilenet_v3_small"},
                 2_542_856, 56_510_400, 67.67, 87.40),
)  # fmt: skip
register(
    # size, its name there, parameters, multiply-adds, top-1 and top-5 (timm's results)
    _timm("mobilenetv3large.timm", _L, {"timm": "mobilenetv3_large_100"}, 5_483_032, 216_589_760, 75.77, 92.54),
    _timm("mobilenetv3large_0.75.timm", _L, {"timm": "mobilenetv3_large_075"}, 3_993_528, 154_560_624, width=0.75),
    _timm("mobilenetv3small.timm", _S, {"timm": "mobilenetv3_small_100"}, 2_542_856, 56_510_400, 67.66, 87.64),
    _timm("mobilenetv3small_0.75.timm", _S, {"timm": "mobilenetv3_small_075"},
          2_041_872, 43_399_344, 65.23, 85.45, width=0.75),
    _timm("mobilenetv3small_0.5.timm", _S, {"timm": "mobilenetv3_small_050"},
          1_593_224, 24_188_688, 57.91, 80.18, width=0.5),
)  # fmt: skip
