"""NASNet-A (Zoph et al., "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018).

Figure 4's two cells, stacked as in tables 2 and 3: "6 @ 4032" (large) and "4 @ 1056" (mobile) have 6 and 4 normal
cells at each resolution, and 4032 and 1056 channels at the end. A cell takes the outputs of the two before it.

Both are keras.applications', to take its weights. Deviations, as there: zeros take part in strided pooling, where the
authors' release leaves the margin out (timm's, "nasnetlarge.torch", in averages only). `skip_reduction`, whether the
cell after a reduction takes the same previous input as the reduction, and the dropout are the release's. `drop_path`,
the large network's 0.3 there, is off by default: the paper raises it in the course of training, here it is constant.
"""

import functools
from typing import Any, NamedTuple

import keras
from keras import KerasTensor

from kcnn.models.spec import Application, Features, ModelSpec, register
from kcnn.nn.blocks import Ops
from kcnn.nn.layers import Crop, SamePadding, StochasticDepth


class _Cell(NamedTuple):
    """Each sum is of two operations on the current input, the previous one, or an earlier sum."""

    strides: int
    sums: tuple[tuple[tuple[str, str], tuple[str, str]], ...]
    outputs: tuple[str, ...]


# Figure 4
_NORMAL = _Cell(
    1,
    (
        (("sep5", "current"), ("sep3", "previous")),
        (("sep5", "previous"), ("sep3", "previous")),
        (("avg3", "current"), ("identity", "previous")),
        (("avg3", "previous"), ("avg3", "previous")),
        (("sep3", "current"), ("identity", "current")),
    ),
    ("previous", "sum1", "sum2", "sum3", "sum4", "sum5"),
)
_REDUCTION = _Cell(
    2,
    (
        (("sep5", "current"), ("sep7", "previous")),
        (("max3", "current"), ("sep7", "previous")),
        (("avg3", "current"), ("sep5", "previous")),
        (("identity", "sum2"), ("avg3", "sum1")),
        (("sep3", "sum1"), ("max3", "current")),
    ),
    ("sum2", "sum3", "sum4", "sum5"),
)


def _projected(x: KerasTensor, ops: Ops, filters: int, *, name: str) -> KerasTensor:
    x = ops.conv(ops.activate(x, name=f"{name}_act"), filters, 1, name=name)
    return ops.normalize(x, name=f"{name}_norm")


def _halved(x: KerasTensor, ops: Ops, filters: int, *, name: str) -> KerasTensor:
    """Halve the resolution: half of the channels from the even positions, half from the odd ones."""
    x = ops.activate(x, name=f"{name}_act")
    even = ops.conv(x, filters // 2, 1, strides=2, padding="valid", name=f"{name}_even")
    x = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
    x = Crop(((1, 0), (1, 0)), name=f"{name}_shift")(x)
    odd = ops.conv(x, filters // 2, 1, strides=2, padding="valid", name=f"{name}_odd")
    return ops.normalize(keras.layers.Concatenate(name=f"{name}_concat")([even, odd]), name=f"{name}_norm")


def _separable(x: KerasTensor, ops: Ops, filters: int, kernel_size: int, *, strides: int, name: str) -> KerasTensor:
    """Build two separable convolutions (appendix A.4); the activation before the first is the caller's."""
    x = ops.separable(x, filters, kernel_size, strides=strides, padding="same", name=f"{name}_sep1")
    x = ops.activate(ops.normalize(x, name=f"{name}_sep1_norm"), name=f"{name}_sep1_act")
    x = ops.separable(x, filters, kernel_size, padding="same", name=f"{name}_sep2")
    return ops.normalize(x, name=f"{name}_sep2_norm")


def _pool(x: KerasTensor, operation: str, *, strides: int, zeros: bool, name: str) -> KerasTensor:
    """Build 3x3 pooling; `zeros` says whether those of the margin take part."""
    kind = keras.layers.MaxPooling2D if operation == "max3" else keras.layers.AveragePooling2D
    if zeros:
        x = SamePadding(3, strides, name=f"{name}_pad")(x)
    return kind(3, strides, "valid" if zeros else "same", name=name)(x)


def _cell(
    x: KerasTensor,
    previous: KerasTensor,
    ops: Ops,
    filters: int,
    *,
    kind: _Cell,
    zero_max: bool,
    drop_rate: float,
    name: str,
) -> KerasTensor:
    """Build figure 4. The previous input is brought to the current one's resolution and to `filters` first."""
    if previous.shape[1:3] != x.shape[1:3]:
        previous = _halved(previous, ops, filters, name=f"{name}_halved")
    elif previous is not x:
        previous = _projected(previous, ops, filters, name=f"{name}_previous")
    states = {"previous": previous, "current": _projected(x, ops, filters, name=f"{name}_current")}

    @functools.cache
    def activated(source: str) -> KerasTensor:
        return ops.activate(states[source], name=f"{name}_{source}_sep_act")

    @functools.cache
    def pooled(operation: str, source: str, strides: int) -> KerasTensor:
        zeros = strides > 1 and (zero_max or operation == "avg3")
        return _pool(states[source], operation, strides=strides, zeros=zeros, name=f"{name}_{source}_{operation}")

    def applied(operation: str, source: str, name: str) -> KerasTensor:
        if operation == "identity":
            return states[source]
        strides = kind.strides if source in ("previous", "current") else 1
        if operation.startswith("sep"):
            y = _separable(activated(source), ops, filters, int(operation[3:]), strides=strides, name=name)
        else:
            y = pooled(operation, source, strides)
        return StochasticDepth(drop_rate, name=f"{name}_drop_path")(y) if ops.drop_path else y

    for index, (left, right) in enumerate(kind.sums, start=1):
        pair = [applied(*left, f"{name}_left{index}"), applied(*right, f"{name}_right{index}")]
        states[f"sum{index}"] = keras.layers.Add(name=f"{name}_sum{index}")(pair)
    return keras.layers.Concatenate(name=f"{name}_concat")([states[source] for source in kind.outputs])


def features(
    x: KerasTensor, ops: Ops, *, stem: int, channels: int, cells: int, skip_reduction: bool, zero_max: bool = True
) -> KerasTensor:
    """Build a 3x3 convolution, two reductions, and three stages of normal cells with a reduction between; stride 32.

    Args:
        x: float [N, H, W, 3].
        ops: the operations.
        stem: channels of the first convolution.
        channels: of the last cell.
        cells: normal cells of each stage.
        skip_reduction: whether the cell after a reduction takes the same previous input as the reduction.
        zero_max: whether zeros take part in strided max pooling.
    """
    x = ops.conv(x, stem, 3, strides=2, padding="valid", name="stem_conv")
    x = previous = ops.normalize(x, name="stem_conv_norm")
    last = channels // 24  # filters of stage1's normal cells; a cell gives six times as many, a stage has twice as many
    plan = [("stage1_reduction1", last // 4, _REDUCTION), ("stage1_reduction2", last // 2, _REDUCTION)]
    for stage, filters in enumerate((last, 2 * last, 4 * last), start=1):
        if stage > 1:
            plan.append((f"stage{stage}_reduction", filters, _REDUCTION))
        plan += [(f"stage{stage}_cell{index}", filters, _NORMAL) for index in range(1, cells + 1)]
    for count, (name, filters, kind) in enumerate(plan, start=1):
        rate = count / len(plan) * ops.drop_path
        y = _cell(x, previous, ops, filters, kind=kind, zero_max=zero_max, drop_rate=rate, name=name)
        if not (skip_reduction and name.endswith("_reduction")):
            previous = x
        x = y
    return ops.activate(x, name="stage3_final_act")


def _row(
    name: str, network: Features, input_size: int, params: int, macs: int, top1: float, top5: float, **twins: Any
) -> ModelSpec:
    return ModelSpec(
        name,
        family="nasnet",
        features=network,
        paper="Zoph et al., Learning Transferable Architectures for Scalable Image Recognition, CVPR 2018, "
        "arXiv:1707.07012",
        year=2017,
        input_size=input_size,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="tf",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.5,
            "dropconnect": 0.0,
            "drop_path": 0.0,
        },
        top1=top1,
        top5=top5,
        note="keras.applications' 5.33 and 88.95 M parameters include moving statistics.",
        **twins,
    )


_MOBILE = functools.partial(features, stem=32, channels=1056, cells=4, skip_reduction=False)
_LARGE = functools.partial(features, stem=96, channels=4032, cells=6, skip_reduction=True)
_MOBILE_TWIN = Application(
    "NASNetMobile",
    "nasnet/NASNet-mobile.h5",
    file_hash="020fb642bf7360b370c678b08e0adf61",
    cached_as="nasnet_mobile.h5",
)
_LARGE_TWIN = Application(
    "NASNetLarge",
    "nasnet/NASNet-large.h5",
    file_hash="11577c9a518f0070763c2b964a382f17",
    cached_as="nasnet_large.h5",
)
_LARGE_TORCH = functools.partial(_LARGE, zero_max=False)

# network, input size, parameters, multiply-adds, top-1, top-5 (keras.io, timm's results), twins
register(
    _row("nasnetmobile", _MOBILE, 224, 5_289_978, 563_638_816, 74.4, 91.9, application=_MOBILE_TWIN),
    _row("nasnetlarge", _LARGE, 331, 88_753_150, 23_783_414_658, 82.5, 96.0, application=_LARGE_TWIN),
    _row(
        "nasnetlarge.torch", _LARGE_TORCH, 331, 88_753_150, 23_783_414_658, 82.63, 96.04, torch={"timm": "nasnetalarge"}
    ),
)
