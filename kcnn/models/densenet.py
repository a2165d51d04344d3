"""DenseNet-BC (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017).

Table 1, with DenseNet-161 of the project's release, and table 2's networks for CIFAR images of 32 pixels. A layer
gives `growth` channels, behind a bottleneck of four times as many; transitions halve the channels ("BC").

DenseNet-121, 169 and 201 are keras.applications', to take its weights; torchvision's differ in epsilon alone, 1e-5 to
1.001e-5, which shows in no logit. The dropout of 0.2 behind each convolution, for CIFAR without augmentation, is left
out.
"""

from functools import partial
from typing import Any

import keras

from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act, pad

_TABLE1 = (
    # name   growth  stem  layers per block  parameters  multiply-adds  top-1, top-5 (keras.io; torchvision; table 3)
    ("densenet121", 32, 64, (6, 12, 24, 16), 7_978_856, 2_834_161_664, 75.0, 92.3),
    ("densenet169", 32, 64, (6, 12, 32, 32), 14_149_480, 3_359_843_328, 76.2, 93.2),
    ("densenet201", 32, 64, (6, 12, 48, 32), 20_013_928, 4_291_365_888, 77.3, 93.6),
    ("densenet161", 48, 96, (6, 12, 36, 24), 28_681_000, 7_727_907_072, 77.14, 93.56),
    ("densenet264", 32, 64, (6, 12, 64, 48), 33_337_704, 5_751_653_376, 77.85, 93.88),
)
_TABLE2 = (
    # name                 growth  layers per block  parameters  multiply-adds
    ("densenetbc100_12", 12, 16, 1_108_732, 288_268_272),
    ("densenetbc250_24", 24, 41, 17_042_056, 5_420_502_384),
    ("densenetbc190_40", 40, 31, 27_793_520, 9_304_113_840),
)


def _imagenet_stem(x: Any, ops: Ops, channels: int) -> Any:
    """To a quarter of the resolution."""
    x = conv_norm_act(pad(x, 3, name="stem_pad"), ops, channels, 7, strides=2, padding="valid", name="stem_conv")
    x = pad(x, 1, name="stem_pool_pad")  # zeros lose to what a ReLU lets through
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def _cifar_stem(x: Any, ops: Ops, channels: int) -> Any:
    """Section 4.2: at full resolution; the first layer begins with normalisation."""
    return ops.conv(x, channels, 3, name="stem_conv")


def _preactivated(x: Any, ops: Ops, channels: int, kernel_size: int, *, norm: str, conv: str) -> Any:
    """Normalisation, activation, convolution: section 3, "composite function"."""
    x = ops.activate(ops.normalize(x, name=norm), name=norm.replace("norm", "act"))
    return ops.conv(x, channels, kernel_size, name=conv)


def _dense(x: Any, ops: Ops, growth: int, *, name: str) -> Any:
    """`growth` more channels, from all there are."""
    new = _preactivated(x, ops, 4 * growth, 1, norm=f"{name}_norm", conv=f"{name}_conv1")
    new = _preactivated(new, ops, growth, 3, norm=f"{name}_conv1_norm", conv=f"{name}_conv2")
    return keras.layers.Concatenate(name=f"{name}_concat")([x, new])


def _transition(x: Any, ops: Ops, *, name: str) -> Any:
    """Half the channels, half the resolution."""
    x = _preactivated(x, ops, x.shape[-1] // 2, 1, norm=f"{name}_norm", conv=f"{name}_conv")
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def features(x: Any, ops: Ops, *, stem: Any, growth: int, channels: int, depths: tuple[int, ...]) -> Any:
    """A stem with `channels`, and dense blocks, each a stage, with transitions between."""
    x = stem(x, ops, channels)
    for stage, depth in enumerate(depths, start=1):
        if stage > 1:
            x = _transition(x, ops, name=f"stage{stage}_transition")
        for index in range(1, depth + 1):
            x = _dense(x, ops, growth, name=f"stage{stage}_block{index}")
    x = ops.normalize(x, name=f"stage{len(depths)}_final_norm")
    return ops.activate(x, name=f"stage{len(depths)}_final_act")


_MD5 = {
    "densenet121": "9d60b8095a5708f2dcce2bca79d332c7",
    "densenet169": "d699b8f76981ab1b30698df4c175e90b",
    "densenet201": "1ceb130c1ea1b78c3bf6114dbdfd8807",
}


def _application(name: str) -> Application | None:
    if name not in _MD5:
        return None
    file = f"densenet/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return Application(name.replace("densenet", "DenseNet"), file, file_hash=_MD5[name])


def _add(name: str, **row: Any) -> None:
    MODELS.add(
        name,
        ModelSpec(
            name=name,
            family="densenet",
            paper="Huang et al., Densely Connected Convolutional Networks, CVPR 2017, arXiv:1608.06993",
            year=2016,
            preprocessing="torch",
            design={
                "norm": "batch",
                "bn_momentum": 0.99,
                "norm_epsilon": 1.001e-5,
                "activation": "relu",
                "kernel_initializer": "he_normal",
                "dropout": 0.0,
            },
            **row,
        ),
    )


for _name, _growth, _channels, _depths, _params, _macs, _top1, _top5 in _TABLE1:
    _add(
        _name,
        features=partial(features, stem=_imagenet_stem, growth=_growth, channels=_channels, depths=_depths),
        input_size=224,
        min_size=32,
        params=_params,
        macs=_macs,
        application=_application(_name),
        torch={} if _name == "densenet264" else {"torchvision": _name, "timm": _name},
        top1=_top1,
        top5=_top5,
        note="timm's densenet264d has three convolutions in its stem and growth 48." if _name == "densenet264" else "",
    )

for _name, _growth, _depth, _params, _macs in _TABLE2:
    _add(
        _name,
        features=partial(features, stem=_cifar_stem, growth=_growth, channels=2 * _growth, depths=(_depth,) * 3),
        input_size=32,
        min_size=8,
        params=_params,
        macs=_macs,
        note="The paper's 0.8, 15.3 and 25.6 M parameters are with 10 classes.",
    )
