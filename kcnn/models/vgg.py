"""VGG (Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015).

Table 1, columns A, B, D and E. Layers, names of stages and preprocessing are those of keras.applications' VGG16 and
VGG19; besides, the fully connected layers can have the paper's dropout (section 3.1: `dropout=0.5`).
"""

from functools import partial
from typing import Any

import keras

from kcnn.models.spec import Application, ModelSpec, add
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


def _application(name: str) -> Application | None:
    file = f"{name}/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return Application(name.upper(), {}, file) if name in ("vgg16", "vgg19") else None


add(
    *(
        ModelSpec(
            name=name,
            features=partial(features, depths=depths),
            head=fully_connected,
            paper="Simonyan & Zisserman, Very Deep Convolutional Networks, ICLR 2015, arXiv:1409.1556",
            year=2014,
            input_size=224,
            min_size=32,
            params=params,
            macs=macs,
            preprocessing="caffe",
            design={"activation": "relu", "kernel_initializer": "he_normal", "dropout": 0.5},
            application=_application(name),
        )
        for name, depths, params, macs in _TABLE1
    )
)
