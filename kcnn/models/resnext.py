"""ResNeXt (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017).

Table 1 and section 5: ResNets whose 3x3 convolutions have 32 or 64 groups, of 4 or 8 channels each in the first stage;
figure 3(c). As in the authors' release and torchvision, a stage's stride is in its first 3x3 convolution.
"""

from functools import partial

from kcnn.models.resnet import DEPTHS, DESIGN, features
from kcnn.models.spec import ModelSpec, register
from kcnn.nn.residual import BottleneckBlock


def _row(
    name: str, depth: int, block: BottleneckBlock, params: int, macs: int, top1: float, top5: float, *projects: str
) -> ModelSpec:
    return ModelSpec(
        name,
        family="resnext",
        features=partial(features, block=block, depths=DEPTHS[depth]),
        paper="Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017, arXiv:1611.05431",
        year=2016,
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        preprocessing="torch",
        design=DESIGN,
        torch=dict.fromkeys(projects, name),
        top1=top1,
        top5=top5,
    )


_32x4d, _32x8d, _64x4d = (BottleneckBlock(groups=groups, width=width) for groups, width in ((32, 4), (32, 8), (64, 4)))

# depth, block, parameters, multiply-adds, top-1, top-5, projects with these networks
register(
    _row("resnext50_32x4d", 50, _32x4d, 25_028_904, 4_230_479_872, 77.6, 93.7, "torchvision", "timm"),
    _row("resnext101_32x4d", 101, _32x4d, 44_177_704, 7_969_996_800, 80.3, 94.9, "timm"),
    _row("resnext101_32x8d", 101, _32x8d, 88_791_336, 16_414_015_488, 79.3, 94.5, "torchvision", "timm"),
    _row("resnext101_64x4d", 101, _64x4d, 83_455_272, 15_460_270_080, 83.2, 96.5, "torchvision", "timm"),
)
