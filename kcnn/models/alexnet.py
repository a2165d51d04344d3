"""AlexNet (Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012).

Section 3.5 and figure 2: the two GPUs are two groups in the second, fourth and fifth convolution. Images have 227
pixels, which the figure's 55x55 asks for (its text has 224). `alexnet_single` is the same on one GPU.
Deviation: initialised as He et al.'s, without biases of 1, with which Caffe's authors report a flat loss.

`alexnet.torch` is torchvision's, of "One weird trick for parallelizing convolutional neural networks" (Krizhevsky,
2014, arXiv:1404.5997): other channels, no normalisation.
"""

from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import DesignValue, ModelSpec, register
from kcnn.nn.blocks import Ops, ceil_pool, pad
from kcnn.nn.heads import fully_connected
from kcnn.nn.normalization import LocalResponseNorm

# Filters, kernel size, stride, groups, what comes after the ReLU
Layer = tuple[int, int, int, int, tuple[str, ...]]

_TWO_GPUS: tuple[Layer, ...] = (
    (96, 11, 4, 1, ("lrn", "pool")),
    (256, 5, 1, 2, ("lrn", "pool")),
    (384, 3, 1, 1, ()),
    (384, 3, 1, 2, ()),
    (256, 3, 1, 2, ("pool",)),
)
_ONE_GPU: tuple[Layer, ...] = tuple((*row[:3], 1, row[4]) for row in _TWO_GPUS)
_WEIRD_TRICK: tuple[Layer, ...] = (
    (64, 11, 4, 1, ("pool",)),
    (192, 5, 1, 1, ("pool",)),
    (384, 3, 1, 1, ()),
    (256, 3, 1, 1, ()),
    (256, 3, 1, 1, ("pool",)),
)


def lrn(x: KerasTensor, *, name: str) -> KerasTensor:
    """Build local response normalisation with the constants of section 3.3."""
    return LocalResponseNorm(depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75, name=name)(x)


def pool(x: KerasTensor, *, name: str) -> KerasTensor:
    """Build overlapping max pooling, section 3.4."""
    return keras.layers.MaxPooling2D(3, 2, name=name)(x)


_AFTER = {"lrn": lrn, "pool": pool, "ceil_pool": ceil_pool}


def features(x: KerasTensor, ops: Ops, *, layers: tuple[Layer, ...], margin: int = 0) -> KerasTensor:
    """Build five convolutions, with `margin` zeros around the image; output stride 32."""
    if margin:
        x = pad(x, margin, name="stage1_pad")
    for stage, (filters, kernel_size, strides, groups, after) in enumerate(layers, start=1):
        name = f"stage{stage}_conv"
        padding = "same" if strides == 1 else "valid"
        x = ops.conv(x, filters, kernel_size, strides=strides, padding=padding, groups=groups, use_bias=True, name=name)
        x = ops.activate(x, name=f"{name}_act")
        for kind in after:
            x = _AFTER[kind](x, name=f"stage{stage}_{kind}")
    return x


DESIGN: dict[str, DesignValue] = {
    "activation": "relu",
    "kernel_initializer": "he_normal",
    "dropout": 0.5,
    "dropconnect": 0.0,
}
_PAPER = "Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, NeurIPS 2012"
_row = partial(ModelSpec, family="alexnet", head=fully_connected, design=DESIGN)

register(
    _row(
        "alexnet",
        features=partial(features, layers=_TWO_GPUS),
        paper=_PAPER,
        year=2012,
        input_size=227,
        min_size=67,
        params=60_965_224,
        macs=724_406_816,
        preprocessing="caffe",
        top1=57.1,
        top5=80.2,
        note="Accuracies of one crop are of Caffe's copy (bvlc_alexnet); the paper has 59.3 and 81.8, of ten crops.",
    ),
    _row(
        "alexnet_single",
        features=partial(features, layers=_ONE_GPU),
        paper=_PAPER,
        year=2012,
        input_size=227,
        min_size=67,
        params=62_378_344,
        macs=1_135_256_096,
        preprocessing="caffe",
    ),
    _row(
        "alexnet.torch",
        features=partial(features, layers=_WEIRD_TRICK, margin=2),
        paper="Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014, arXiv:1404.5997",
        year=2014,
        input_size=224,
        min_size=63,
        params=61_100_840,
        macs=714_188_480,
        preprocessing="torch",
        torch={"torchvision": "alexnet"},
        top1=56.522,
        top5=79.066,
    ),
)
