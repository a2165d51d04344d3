"""SqueezeNet (Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016, arXiv:1602.07360).

Table 1, and version 1.1 of the authors' release: the networks of torchvision, the one place where others still get
them from. As there, the first convolution has no padding, poolings reach over the edge, pixels are normalised by mean
and deviation, and a ReLU comes after the last convolution. The bypasses are section 6's, figure 2.
"""

from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.nin import average, class_maps
from kcnn.models.spec import Features, ModelSpec, register
from kcnn.nn.blocks import Ops, ceil_pool

_SQUEEZED = {2: 16, 3: 16, 4: 32, 5: 32, 6: 48, 7: 48, 8: 64, 9: 64}  # fire module → s1x1; e1x1 and e3x3 are 4 times it
_VERSIONS = {
    # kernel and channels of the first convolution, the fire modules between the poolings
    "1.0": (7, 96, ((2, 3, 4), (5, 6, 7, 8), (9,))),
    "1.1": (3, 64, ((2, 3), (4, 5), (6, 7, 8, 9))),
}


def _conv(x: KerasTensor, ops: Ops, channels: int, kernel_size: int, *, name: str) -> KerasTensor:
    return ops.activate(ops.conv(x, channels, kernel_size, use_bias=True, name=name), name=f"{name}_act")


def _fire(x: KerasTensor, ops: Ops, squeezed: int, *, name: str) -> KerasTensor:
    """Build figure 1."""
    x = _conv(x, ops, squeezed, 1, name=f"{name}_squeeze")
    branches = [_conv(x, ops, 4 * squeezed, size, name=f"{name}_expand{size}x{size}") for size in (1, 3)]
    return keras.layers.Concatenate(name=f"{name}_concat")(branches)


def _bypass(shortcut: KerasTensor, x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    """Build the way around a fire module: through a 1x1 convolution where the channels differ."""
    if shortcut.shape[-1] != x.shape[-1]:
        shortcut = ops.conv(shortcut, x.shape[-1], 1, use_bias=True, name=f"{name}_bypass")
    return keras.layers.Add(name=f"{name}_add")([shortcut, x])


def features(x: KerasTensor, ops: Ops, *, version: str, bypassed: tuple[int, ...] = ()) -> KerasTensor:
    """Build a convolution at stride 2, three stages of fire modules, each after a pooling; output stride 16."""
    kernel_size, channels, stages = _VERSIONS[version]
    x = ops.conv(x, channels, kernel_size, strides=2, padding="valid", use_bias=True, name="stem_conv")
    x = ops.activate(x, name="stem_conv_act")
    for stage, modules in enumerate(stages, start=1):
        x = ceil_pool(x, name=f"stage{stage}_pool")
        for module in modules:
            name = f"stage{stage}_fire{module}"
            shortcut, x = x, _fire(x, ops, _SQUEEZED[module], name=name)
            if module in bypassed:
                x = _bypass(shortcut, x, ops, name=name)
    return x


def _head(x: KerasTensor, ops: Ops, num_classes: int) -> KerasTensor:
    if ops.dropout:
        x = keras.layers.Dropout(ops.dropout, name="head_dropout")(x)
    x = keras.layers.ReLU(dtype="float32", name="head_relu")(class_maps(x, num_classes))
    return average(x)


def _row(
    name: str,
    features: Features,
    min_size: int,
    params: int,
    macs: int,
    top1: float,
    top5: float,
    torchvision: str | None = None,
) -> ModelSpec:
    return ModelSpec(
        name,
        family="squeezenet",
        features=features,
        head=_head,
        paper="Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, "
        "2016, arXiv:1602.07360",
        year=2016,
        input_size=224,
        min_size=min_size,
        params=params,
        macs=macs,
        preprocessing="torch",
        design={"activation": "relu", "kernel_initializer": "he_normal", "dropout": 0.5},
        torch={"torchvision": torchvision} if torchvision else {},
        top1=top1,
        top5=top5,
        note="Accuracies of the bypasses are the paper's (table 3), which has 7.7 MB for the complex one where its "
        "figure 2 adds up to 6.1.",
    )


_1_0, _1_1 = partial(features, version="1.0"), partial(features, version="1.1")
_SIMPLE, _COMPLEX = partial(_1_0, bypassed=(3, 5, 7, 9)), partial(_1_0, bypassed=tuple(_SQUEEZED))

# network, smallest image, parameters, multiply-adds, top-1, top-5, its name in torchvision
register(
    _row("squeezenet", _1_0, 21, 1_248_424, 818_924_576, 58.092, 80.420, "squeezenet1_0"),
    _row("squeezenet_1.1", _1_1, 17, 1_235_496, 349_151_936, 58.178, 80.624, "squeezenet1_1"),
    _row("squeezenet_bypass", _SIMPLE, 21, 1_248_424, 818_924_576, 60.4, 82.5),
    _row("squeezenet_complex_bypass", _COMPLEX, 21, 1_589_672, 1_165_298_720, 58.8, 82.0),
)
