"""ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Table 1, with shortcuts of option B, a projection where the channels change; `shortcut=` chooses A, zeros for the
channels that are new, or C, projections everywhere.

ResNet-50/101/152 are keras.applications', to take its weights. As in the paper, a stage's stride is in its first 1x1
convolution. Deviations: convolutions have biases, which the batch norm after them makes redundant; epsilon is
1.001e-5.

ResNet-18/34 and `.torch` are torchvision's: no biases, epsilon 1e-5, pixels normalised by mean and deviation; the
stride of a bottleneck is in its 3x3 convolution ("v1.5").
"""

import dataclasses
from functools import partial
from typing import Unpack

from keras import KerasTensor

from kcnn.models.spec import Application, DesignValue, ModelSpec, register
from kcnn.nn.blocks import Ops, Stem, conv_norm_act
from kcnn.nn.residual import BasicBlock, BottleneckBlock, StageOptions, residual_stages

DEPTHS = {
    # blocks per stage
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
DESIGN: dict[str, DesignValue] = {
    "norm": "batch",
    "bn_momentum": 0.99,
    "norm_epsilon": 1e-5,
    "activation": "relu",
    "kernel_initializer": "he_normal",
    "dropout": 0.0,
    "dropconnect": 0.0,
    "drop_path": 0.0,
    "dropblock": 0.0,
    "padding": "symmetric",
}
PAPER = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385"


def imagenet_stem(x: KerasTensor, ops: Ops, *, use_bias: bool = False) -> KerasTensor:
    """Build a 7x7 convolution and max pooling; output stride 4."""
    x = conv_norm_act(x, ops, 64, 7, strides=2, use_bias=use_bias, name="stem_conv")
    return ops.max_pool(x, 3, 2, name="stem_pool")


def features(
    x: KerasTensor,
    ops: Ops,
    *,
    block: BasicBlock | BottleneckBlock,
    stem: Stem = imagenet_stem,
    shortcut: str = "B",
    **stages: Unpack[StageOptions],
) -> KerasTensor:
    """Build a stem, and the stages of `residual_stages`."""
    return residual_stages(stem(x, ops), ops, dataclasses.replace(block, shortcut=shortcut), **stages)


_row = partial(ModelSpec, family="resnet", paper=PAPER, year=2015, input_size=224, min_size=32)


def _torchvision(
    name: str, depth: int, block: BasicBlock | BottleneckBlock, params: int, macs: int, top1: float, top5: float
) -> ModelSpec:
    twin = name.removesuffix(".torch")
    return _row(
        name,
        features=partial(features, block=block, depths=DEPTHS[depth]),
        params=params,
        macs=macs,
        preprocessing="torch",
        design={**DESIGN, "shortcut": "B"},
        torch={"torchvision": twin, "timm": twin},
        top1=top1,
        top5=top5,
        note="The paper rounds multiply-adds down (ResNet-34: 3.6 billion); it has a bottleneck's stride in the "
        "first convolution.",
    )


def _keras(name: str, depth: int, params: int, macs: int, md5: str, top1: float, top5: float) -> ModelSpec:
    block, stem = BottleneckBlock(strided=1, use_bias=True), partial(imagenet_stem, use_bias=True)
    file = f"resnet/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return _row(
        name,
        features=partial(features, block=block, stem=stem, depths=DEPTHS[depth]),
        params=params,
        macs=macs,
        preprocessing="caffe",
        design={**DESIGN, "norm_epsilon": 1.001e-5, "shortcut": "B"},
        application=Application(f"ResNet{depth}", file, file_hash=md5),
        top1=top1,
        top5=top5,
        note="The paper rounds multiply-adds down (ResNet-50: 3.8 billion).",
    )


register(
    # depth, block, parameters, multiply-adds, top-1, top-5 of the first weights (torchvision)
    _torchvision("resnet18", 18, BasicBlock(), 11_689_512, 1_814_073_344, 69.8, 89.1),
    _torchvision("resnet34", 34, BasicBlock(), 21_797_672, 3_663_761_408, 73.3, 91.4),
    _torchvision("resnet50.torch", 50, BottleneckBlock(), 25_557_032, 4_089_184_256, 76.1, 92.9),
    _torchvision("resnet101.torch", 101, BottleneckBlock(), 44_549_160, 7_801_405_440, 77.4, 93.5),
    _torchvision("resnet152.torch", 152, BottleneckBlock(), 60_192_808, 11_513_626_624, 78.3, 94.0),
    # depth, parameters, multiply-adds, md5 of the weights, top-1, top-5 (keras.io)
    _keras("resnet50", 50, 25_583_592, 3_857_973_248, "2cb95161c43110f7111970584f804107", 74.9, 92.1),
    _keras("resnet101", 101, 44_601_832, 7_570_194_432, "f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4, 92.8),
    _keras("resnet152", 152, 60_268_520, 11_282_415_616, "100835be76be38e30d865e96f2aaae62", 76.6, 93.1),
)
