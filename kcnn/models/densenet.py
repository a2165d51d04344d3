"""DenseNet-BC (Huang et al., "Densely Connected Convolutional Networks", CVPR 2017).

Table 1, with DenseNet-161 of the project's release, and table 2's networks for CIFAR images of 32 pixels. A layer
gives `growth` channels, after a bottleneck of four times as many; transitions halve the channels ("BC").

DenseNet-121, 169 and 201 are keras.applications', to take its weights; torchvision's differ in epsilon alone, 1e-5 to
1.001e-5, which shows in no logit. The dropout of 0.2 after each convolution, for CIFAR without augmentation, is left
out.
"""

from collections.abc import Callable, Sequence
from functools import partial

import keras
from keras import KerasTensor

from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act, pad
from kcnn.nn.stages import block_positions


def _imagenet_stem(x: KerasTensor, ops: Ops, channels: int) -> KerasTensor:
    """Build a 7x7 convolution and max pooling, to a quarter of the resolution."""
    x = conv_norm_act(pad(x, 3, name="stem_pad"), ops, channels, 7, strides=2, padding="valid", name="stem_conv")
    x = pad(x, 1, name="stem_pool_pad")  # zeros lose to what a ReLU lets through
    return keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def _cifar_stem(x: KerasTensor, ops: Ops, channels: int) -> KerasTensor:
    """Build section 4.2's convolution at full resolution; the first layer begins with normalisation."""
    return ops.conv(x, channels, 3, name="stem_conv")


def _preactivated(x: KerasTensor, ops: Ops, channels: int, kernel_size: int, *, norm: str, conv: str) -> KerasTensor:
    """Build normalisation, activation, convolution: section 3, "composite function"."""
    x = ops.activate(ops.normalize(x, name=norm), name=norm.replace("norm", "act"))
    return ops.conv(x, channels, kernel_size, name=conv)


def _dense(x: KerasTensor, ops: Ops, growth: int, *, name: str) -> KerasTensor:
    """Add `growth` channels, made from all there are."""
    new = _preactivated(x, ops, 4 * growth, 1, norm=f"{name}_norm", conv=f"{name}_conv1")
    new = _preactivated(new, ops, growth, 3, norm=f"{name}_conv1_norm", conv=f"{name}_conv2")
    return keras.layers.Concatenate(name=f"{name}_concat")([x, new])


def _transition(x: KerasTensor, ops: Ops, *, name: str) -> KerasTensor:
    """Halve the channels and the resolution."""
    x = _preactivated(x, ops, x.shape[-1] // 2, 1, norm=f"{name}_norm", conv=f"{name}_conv")
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def features(
    x: KerasTensor,
    ops: Ops,
    *,
    stem: Callable[[KerasTensor, Ops, int], KerasTensor],
    growth: int,
    channels: int,
    depths: Sequence[int],
) -> KerasTensor:
    """Build a stem, and dense blocks with transitions between; a dense block is a stage.

    Args:
        x: float [N, H, W, 3].
        ops: the operations.
        stem: (x, ops, channels) → x.
        growth: channels that each layer adds.
        channels: of the stem.
        depths: layers of each dense block.
    """
    x = stem(x, ops, channels)
    for at in block_positions(depths, [1] * len(depths)):
        if at.index == 1 and at.stage > 1:
            x = _transition(x, ops, name=f"stage{at.stage}_transition")
        x = _dense(x, ops, growth, name=at.name)
    x = ops.normalize(x, name=f"stage{len(depths)}_final_norm")
    return ops.activate(x, name=f"stage{len(depths)}_final_act")


_row = partial(
    ModelSpec,
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
        "dropconnect": 0.0,
    },
)


def _imagenet(
    name: str,
    growth: int,
    channels: int,
    depths: Sequence[int],
    params: int,
    macs: int,
    top1: float,
    top5: float,
    md5: str | None = None,
) -> ModelSpec:
    file = f"densenet/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    in_torch = name != "densenet264"
    return _row(
        name,
        features=partial(features, stem=_imagenet_stem, growth=growth, channels=channels, depths=depths),
        input_size=224,
        min_size=32,
        params=params,
        macs=macs,
        application=Application(name.replace("densenet", "DenseNet"), file, file_hash=md5) if md5 else None,
        torch={"torchvision": name, "timm": name} if in_torch else {},
        top1=top1,
        top5=top5,
        note="" if in_torch else "timm's densenet264d has three convolutions in its stem and growth 48.",
    )


def _cifar(name: str, growth: int, depth: int, params: int, macs: int) -> ModelSpec:
    return _row(
        name,
        features=partial(features, stem=_cifar_stem, growth=growth, channels=2 * growth, depths=3 * (depth,)),
        input_size=32,
        min_size=8,
        params=params,
        macs=macs,
        note="The paper's 0.8, 15.3 and 25.6 M parameters are with 10 classes.",
    )


register(
    # Table 1: growth, channels of the stem, layers per block, parameters, multiply-adds, top-1, top-5 (keras.io;
    # torchvision; table 3), md5 of keras.applications' weights
    _imagenet("densenet121", 32, 64, (6, 12, 24, 16), 7_978_856, 2_834_161_664, 75.0, 92.3,
              "9d60b8095a5708f2dcce2bca79d332c7"),
    _imagenet("densenet169", 32, 64, (6, 12, 32, 32), 14_149_480, 3_359_843_328, 76.2, 93.2,
              "d699b8f76981ab1b30698df4c175e90b"),
    _imagenet("densenet201", 32, 64, (6, 12, 48, 32), 20_013_928, 4_291_365_888, 77.3, 93.6,
              "1ceb130c1ea1b78c3bf6114dbdfd8807"),
    _imagenet("densenet161", 48, 96, (6, 12, 36, 24), 28_681_000, 7_727_907_072, 77.14, 93.56),
    _imagenet("densenet264", 32, 64, (6, 12, 64, 48), 33_337_704, 5_751_653_376, 77.85, 93.88),
    # Table 2: growth, layers per block, parameters, multiply-adds
    _cifar("densenetbc100_12", 12, 16, 1_108_732, 288_268_272),
    _cifar("densenetbc250_24", 24, 41, 17_042_056, 5_420_502_384),
    _cifar("densenetbc190_40", 40, 31, 27_793_520, 9_304_113_840),
)  # fmt: skip
