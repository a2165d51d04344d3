"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015).

Table 1, columns A, B, D and E, with the dropout of section 3.1. VGG-16 and 19 are keras.applications', to take its
weights, but for that dropout. All others are torchvision's, the one place with published weights: pixels normalised by
mean and deviation, and in `_bn` batch norm behind every convolution, which keeps its bias. Deviation, as in Keras: the
head is fully connected at test time too, so an image size other than 224 changes the shape of its first layer.
"""

from functools import partial
from typing import Any

import keras

from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops
from kcnn.nn.heads import fully_connected

_CHANNELS = (64, 128, 256, 512, 512)
_A, _B, _D, _E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)
_TABLE1 = (
    # name, convolutions per stage, parameters, multiply-adds, top-1 and top-5 (keras.io, torchvision)
    ("vgg11", _A, 132_863_336, 7_609_090_048, 69.020, 88.628),
    ("vgg13", _B, 133_047_848, 11_308_466_176, 69.928, 89.246),
    ("vgg16", _D, 138_357_544, 15_470_264_320, 71.3, 90.1),
    ("vgg19", _E, 143_667_240, 19_632_062_464, 71.3, 90.0),
    ("vgg16.torch", _D, 138_357_544, 15_470_264_320, 71.592, 90.382),
    ("vgg19.torch", _E, 143_667_240, 19_632_062_464, 72.376, 90.876),
    ("vgg11_bn", _A, 132_868_840, 7_609_090_048, 70.370, 89.810),
    ("vgg13_bn", _B, 133_053_736, 11_308_466_176, 71.586, 90.374),
    ("vgg16_bn", _D, 138_365_992, 15_470_264_320, 73.360, 91.516),
    ("vgg19_bn", _E, 143_678_248, 19_632_062_464, 74.218, 91.842),
)
_TWINS = {"vgg16": "64373286793e3c8b2b4e3219cbf3544b", "vgg19": "cbe5617147190e668d6c5d5026f83318"}  # md5


def features(x: Any, ops: Ops, *, depths: tuple[int, ...], normalized: bool) -> Any:
    """Five stages of 3x3 convolutions, each ending in 2x2 max pooling."""
    for stage, (depth, channels) in enumerate(zip(depths, _CHANNELS, strict=True), start=1):
        for index in range(1, depth + 1):
            name = f"stage{stage}_conv{index}"
            x = ops.conv(x, channels, 3, use_bias=True, name=name)
            if normalized:
                x = ops.normalize(x, name=f"{name}_norm")
            x = ops.activate(x, name=f"{name}_act")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    return x


def _application(name: str) -> Application | None:
    if name not in _TWINS:
        return None
    file = f"{name}/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return Application(name.upper(), file, file_hash=_TWINS[name])


for _name, _depths, _params, _macs, _top1, _top5 in _TABLE1:
    _normalized = _name.endswith("_bn")
    _torch = _name.removesuffix(".torch")
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="vgg",
            features=partial(features, depths=_depths, normalized=_normalized),
            head=fully_connected,
            paper="Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, "
            "ICLR 2015, arXiv:1409.1556",
            year=2014,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="caffe" if _name in _TWINS else "torch",
            design={
                **({"norm": "batch", "bn_momentum": 0.99, "norm_epsilon": 1e-5} if _normalized else {}),
                "activation": "relu",
                "kernel_initializer": "he_normal",
                "dropout": 0.5,
            },
            application=_application(_name),
            torch={} if _name in _TWINS else {"torchvision": _torch, "timm": _torch},
            top1=_top1,
            top5=_top5,
            note="The 15.3 billion multiply-adds that He et al. have for VGG-16 leave out its dense layers.",
        ),
    )
