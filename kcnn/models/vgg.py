"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015).

Table 1, columns A, B, D and E, with the dropout of section 3.1. VGG-16 and 19 are keras.applications', to take its
weights, but for that dropout. Deviation, as there: the head is fully connected at test time too, so an image size other
than 224 changes the shape of its first layer.
"""

from functools import partial
from typing import Any

import keras

from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops
from kcnn.nn.heads import fully_connected

_CHANNELS = (64, 128, 256, 512, 512)
_TABLE1 = (
    # name    convolutions per stage  parameters   multiply-adds
    ("vgg11", (1, 1, 2, 2, 2), 132_863_336, 7_609_090_048),
    ("vgg13", (2, 2, 2, 2, 2), 133_047_848, 11_308_466_176),
    ("vgg16", (2, 2, 3, 3, 3), 138_357_544, 15_470_264_320),
    ("vgg19", (2, 2, 4, 4, 4), 143_667_240, 19_632_062_464),
)


def features(x: Any, ops: Ops, *, depths: tuple[int, ...]) -> Any:
    """Five stages of 3x3 convolutions, each ending in 2x2 max pooling."""
    for stage, (depth, channels) in enumerate(zip(depths, _CHANNELS, strict=True), start=1):
        for index in range(1, depth + 1):
            name = f"stage{stage}_conv{index}"
            x = ops.activate(ops.conv(x, channels, 3, use_bias=True, name=name), name=f"{name}_act")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    return x


_TWINS = {
    # md5 of the weights, top-1, top-5 (keras.io)
    "vgg16": ("64373286793e3c8b2b4e3219cbf3544b", 71.3, 90.1),
    "vgg19": ("cbe5617147190e668d6c5d5026f83318", 71.3, 90.0),
}


def _application(name: str) -> Application | None:
    if name not in _TWINS:
        return None
    md5, *_ = _TWINS[name]
    file = f"{name}/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return Application(name.upper(), file, md5=md5)


for _name, _depths, _params, _macs in _TABLE1:
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="vgg",
            features=partial(features, depths=_depths),
            head=fully_connected,
            paper="Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, "
            "ICLR 2015, arXiv:1409.1556",
            year=2014,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="caffe",
            design={"activation": "relu", "kernel_initializer": "he_normal", "dropout": 0.5},
            application=_application(_name),
            top1=_TWINS.get(_name, (None, None, None))[1],
            top5=_TWINS.get(_name, (None, None, None))[2],
            note="The 15.3 billion multiply-adds that He et al. have for VGG-16 leave out its dense layers.",
        ),
    )
