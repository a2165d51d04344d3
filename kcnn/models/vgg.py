"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015).

Table 1, columns A, B, D and E, with the dropout of section 3.1. VGG-16 and 19 are keras.applications', to take its
weights, but for that dropout. All others are torchvision's, the one place with published weights: pixels normalised by
mean and deviation, and in `_bn` batch norm after every convolution, which keeps its bias. Deviation, as in Keras: the
head is fully connected at test time too, so an image size other than 224 changes the shape of its first layer.
"""

from collections.abc import Sequence
from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops
from kcnn.nn.heads import fully_connected

_CHANNELS = (64, 128, 256, 512, 512)
_A, _B, _D, _E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)


def features(x: KerasTensor, ops: Ops, *, depths: Sequence[int], normalized: bool) -> KerasTensor:
    """Build five stages of 3x3 convolutions, each ending in 2x2 max pooling."""
    for stage, (depth, channels) in enumerate(zip(depths, _CHANNELS, strict=True), start=1):
        for index in range(1, depth + 1):
            name = f"stage{stage}_conv{index}"
            x = ops.conv(x, channels, 3, use_bias=True, name=name)
            if normalized:
                x = ops.normalize(x, name=f"{name}_norm")
            x = ops.activate(x, name=f"{name}_act")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    return x


def _row(
    name: str, depths: Sequence[int], params: int, macs: int, top1: float, top5: float, md5: str | None = None
) -> ModelSpec:
    normalized = name.endswith("_bn")
    twin = name.removesuffix(".torch")
    file = f"{name}/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return ModelSpec(
        name,
        family="vgg",
        features=partial(features, depths=depths, normalized=normalized),
        head=fully_connected,
        paper="Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, "
        "ICLR 2015, arXiv:1409.1556",
        year=2014,
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="caffe" if md5 else "torch",
        design={
            **({"norm": "batch", "bn_momentum": 0.99, "norm_epsilon": 1e-5} if normalized else {}),
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.5,
            "dropconnect": 0.0,
        },
        application=Application(name.upper(), file, file_hash=md5) if md5 else None,
        torch={} if md5 else {"torchvision": twin, "timm": twin},
        top1=top1,
        top5=top5,
        note="The 15.3 billion multiply-adds that He et al. have for VGG-16 leave out its dense layers.",
    )


# Table 1: convolutions per stage, parameters, multiply-adds, top-1 and top-5 (keras.io, torchvision), md5 of
# keras.applications' weights
register(
    _row("vgg11", _A, 132_863_336, 7_609_090_048, 69.020, 88.628),
    _row("vgg13", _B, 133_047_848, 11_308_466_176, 69.928, 89.246),
    _row("vgg16", _D, 138_357_544, 15_470_264_320, 71.3, 90.1, "64373286793e3c8b2b4e3219cbf3544b"),
    _row("vgg19", _E, 143_667_240, 19_632_062_464, 71.3, 90.0, "cbe5617147190e668d6c5d5026f83318"),
    _row("vgg16.torch", _D, 138_357_544, 15_470_264_320, 71.592, 90.382),
    _row("vgg19.torch", _E, 143_667_240, 19_632_062_464, 72.376, 90.876),
    _row("vgg11_bn", _A, 132_868_840, 7_609_090_048, 70.370, 89.810),
    _row("vgg13_bn", _B, 133_053_736, 11_308_466_176, 71.586, 90.374),
    _row("vgg16_bn", _D, 138_365_992, 15_470_264_320, 73.360, 91.516),
    _row("vgg19_bn", _E, 143_678_248, 19_632_062_464, 74.218, 91.842),
)
