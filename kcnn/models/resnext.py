"""ResNeXt (Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017).

Table 1 and section 5: ResNets whose 3x3 convolutions have 32 or 64 groups, of 4 or 8 channels each in the first stage;
figure 3(c). As in the authors' release and torchvision, a stage's stride is in its first 3x3 convolution.
"""

from functools import partial

from kcnn.models.resnet import DEPTHS, DESIGN, features
from kcnn.models.spec import MODELS, ModelSpec
from kcnn.nn.residual import bottleneck

_ROWS = (
    # depth, cardinality, width, parameters, multiply-adds, top-1, top-5, projects with these networks
    (50, 32, 4, 25_028_904, 4_230_479_872, 77.6, 93.7, ("torchvision", "timm")),
    (101, 32, 4, 44_177_704, 7_969_996_800, 80.3, 94.9, ("timm",)),
    (101, 32, 8, 88_791_336, 16_414_015_488, 79.3, 94.5, ("torchvision", "timm")),
    (101, 64, 4, 83_455_272, 15_460_270_080, 83.2, 96.5, ("torchvision", "timm")),
)

for _depth, _groups, _width, _params, _macs, _top1, _top5, _projects in _ROWS:
    _name = f"resnext{_depth}_{_groups}x{_width}d"
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="resnext",
            features=partial(features, block=partial(bottleneck, groups=_groups, width=_width), depths=DEPTHS[_depth]),
            paper="Xie et al., Aggregated Residual Transformations for Deep Neural Networks, CVPR 2017, "
            "arXiv:1611.05431",
            year=2016,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="torch",
            design=DESIGN,
            torch=dict.fromkeys(_projects, _name),
            top1=_top1,
            top5=_top5,
        ),
    )
