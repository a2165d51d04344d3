"""ZFNet (Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014).

Figure 3: AlexNet on one GPU with a first layer of 7x7 at stride 2 and a second of stride 2, contrast normalised after
the pooling. The figure's sizes, 110, 55, 26, 13 and 6, ask for one pixel of padding and for poolings that reach over
the edge. The paper does not give the constants of the normalisation; these are AlexNet's.
"""

from functools import partial

from kcnn.models.alexnet import DESIGN, Layer, features
from kcnn.models.spec import ModelSpec, register
from kcnn.nn.heads import fully_connected

_FIGURE3: tuple[Layer, ...] = (
    (96, 7, 2, 1, ("ceil_pool", "lrn")),
    (256, 5, 2, 1, ("ceil_pool", "lrn")),
    (384, 3, 1, 1, ()),
    (384, 3, 1, 1, ()),
    (256, 3, 1, 1, ("ceil_pool",)),
)

register(
    ModelSpec(
        "zfnet",
        family="zfnet",
        features=partial(features, layers=_FIGURE3, margin=1),
        head=fully_connected,
        paper="Zeiler & Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, arXiv:1311.2901",
        year=2014,
        input_size=224,
        min_size=47,
        params=62_357_608,
        macs=1_168_032_896,
        preprocessing="caffe",
        design=DESIGN,
        top1=61.6,
        top5=83.5,
        note="Accuracies are of ten crops (table 2, one network of figure 3).",
    ),
)
