"""Network in Network (Lin et al., "Network In Network", ICLR 2014).

`nin_cifar` is section 4.2's network as the authors trained it (mavenlin/cuda-convnet), `nin` the one for ImageNet that
they gave to Caffe's model zoo. Deviations: the class maps have no ReLU, after which networks trained from scratch came
to a halt with all logits 0; He et al.'s initialisation, and pixels of the scale that it asks for.
"""

from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import ModelSpec, register
from kcnn.nn.blocks import Ops, ceil_pool
from kcnn.nn.convolutions import PointwiseConv


def class_maps(x: KerasTensor, num_classes: int) -> KerasTensor:
    """Build one map for each class, float32, by a 1x1 convolution."""
    initializer = keras.initializers.RandomNormal(stddev=0.01)
    return PointwiseConv(num_classes, 1, kernel_initializer=initializer, dtype="float32", name="head_logits")(x)


def average(x: KerasTensor) -> KerasTensor:
    """Build global average pooling (section 3.2): the logits of class maps."""
    return keras.layers.GlobalAveragePooling2D(dtype="float32", name="head_pool")(x)


def _head(x: KerasTensor, ops: Ops, num_classes: int) -> KerasTensor:
    return average(class_maps(x, num_classes))


def _average_pool(x: KerasTensor, *, name: str) -> KerasTensor:
    return keras.layers.AveragePooling2D(3, 2, "same", name=name)(x)


_POOLS = {"max": ceil_pool, "average": _average_pool}
# Kernel size, stride, channels of the convolution and of the 1x1 convolutions after it, pooling, dropout after that
_Layer = tuple[int, int, tuple[int, ...], str | None, bool]

_CIFAR: tuple[_Layer, ...] = (
    (5, 1, (192, 160, 96), "max", True),
    (5, 1, (192, 192, 192), "average", True),
    (3, 1, (192, 192), None, False),
)
_IMAGENET: tuple[_Layer, ...] = (
    (11, 4, (96, 96, 96), "max", False),
    (5, 1, (256, 256, 256), "max", False),
    (3, 1, (384, 384, 384), "max", True),
    (3, 1, (1024, 1024), None, False),
)


def features(x: KerasTensor, ops: Ops, *, layers: tuple[_Layer, ...]) -> KerasTensor:
    """Build mlpconv layers, without the last one's 1x1 convolution to the classes."""
    for stage, (kernel_size, strides, channels, pooling, dropped) in enumerate(layers, start=1):
        for index, filters in enumerate(channels):
            size, stride = (1, 1) if index else (kernel_size, strides)
            name, padding = f"stage{stage}_conv{index + 1}", "same" if stride == 1 else "valid"
            x = ops.conv(x, filters, size, strides=stride, padding=padding, use_bias=True, name=name)
            x = ops.activate(x, name=f"{name}_act")
        if pooling:
            x = _POOLS[pooling](x, name=f"stage{stage}_pool")
        if dropped and ops.dropout:
            x = keras.layers.Dropout(ops.dropout, name=f"stage{stage}_dropout")(x)
    return x


_row = partial(
    ModelSpec,
    family="nin",
    head=_head,
    paper="Lin et al., Network In Network, ICLR 2014, arXiv:1312.4400",
    year=2014,
    preprocessing="torch",
    design={"activation": "relu", "kernel_initializer": "he_normal", "dropout": 0.5},
)

register(
    _row(
        "nin",
        features=partial(features, layers=_IMAGENET),
        input_size=224,
        min_size=39,
        params=7_595_176,
        macs=1_100_188_800,
        top1=59.36,
        note="The accuracy is the model zoo's; the paper has no figures for ImageNet.",
    ),
    _row(
        "nin_cifar",
        features=partial(features, layers=_CIFAR),
        input_size=32,
        min_size=8,
        params=1_158_056,
        macs=234_651_648,
        note="966,986 parameters with CIFAR's 10 classes, 193 for each class.",
    ),
)
