"""ResNet (He et al., "Deep Residual Learning for Image Recognition", CVPR 2016).

Table 1, with shortcuts of option B (a projection where the shape changes).

ResNet-50/101/152 are keras.applications', to take its weights. As in the paper, a stage's stride is in its first 1x1
convolution (torchvision has it in the 3x3, "v1.5"). Deviations: convolutions have biases, which the batch norm behind
them makes redundant; epsilon is 1.001e-5.

ResNet-18/34 are torchvision's, the one place with published weights: no biases, epsilon 1e-5, symmetric padding,
pixels normalised by mean and deviation.
"""

from functools import partial
from typing import Any

import keras

from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act, pad

_CHANNELS = (64, 128, 256, 512)
_TABLE1 = (
    # name       block         blocks per stage  parameters  multiply-adds
    ("resnet18", "basic", (2, 2, 2, 2), 11_689_512, 1_814_073_344),
    ("resnet34", "basic", (3, 4, 6, 3), 21_797_672, 3_663_761_408),
    ("resnet50", "bottleneck", (3, 4, 6, 3), 25_583_592, 3_857_973_248),
    ("resnet101", "bottleneck", (3, 4, 23, 3), 44_601_832, 7_570_194_432),
    ("resnet152", "bottleneck", (3, 8, 36, 3), 60_268_520, 11_282_415_616),
)


def _projection(x: Any, ops: Ops, channels: int, *, strides: int, use_bias: bool, name: str) -> Any:
    x = ops.conv(x, channels, 1, strides=strides, use_bias=use_bias, name=f"{name}_shortcut")
    return ops.normalize(x, name=f"{name}_shortcut_norm")


def _basic(x: Any, ops: Ops, channels: int, *, strides: int, depth: float, name: str) -> Any:
    """Figure 5, left: two 3x3 convolutions."""
    shortcut = x
    if strides > 1:
        shortcut = _projection(x, ops, channels, strides=strides, use_bias=False, name=name)
    padding = "same"
    if strides > 1:  # where "same" is one-sided
        x, padding = pad(x, 1, name=f"{name}_pad"), "valid"
    x = conv_norm_act(x, ops, channels, 3, strides=strides, padding=padding, name=f"{name}_conv1")
    x = ops.normalize(ops.conv(x, channels, 3, name=f"{name}_conv2"), name=f"{name}_conv2_norm")
    return ops.activate(ops.residual(shortcut, x, depth=depth, name=name), name=f"{name}_act")


def _bottleneck(x: Any, ops: Ops, channels: int, *, strides: int, depth: float, name: str) -> Any:
    """Figure 5, right: 1x1 to `channels`, 3x3, 1x1 to four times as many."""
    shortcut = x
    if strides > 1 or x.shape[-1] != 4 * channels:
        shortcut = _projection(x, ops, 4 * channels, strides=strides, use_bias=True, name=name)
    x = conv_norm_act(x, ops, channels, 1, strides=strides, use_bias=True, name=f"{name}_conv1")
    x = conv_norm_act(x, ops, channels, 3, use_bias=True, name=f"{name}_conv2")
    x = ops.normalize(ops.conv(x, 4 * channels, 1, use_bias=True, name=f"{name}_conv3"), name=f"{name}_conv3_norm")
    return ops.activate(ops.residual(shortcut, x, depth=depth, name=name), name=f"{name}_act")


_BLOCKS = {"basic": _basic, "bottleneck": _bottleneck}


def features(x: Any, ops: Ops, *, block: str, depths: tuple[int, ...]) -> Any:
    """A 7x7 convolution and max pooling, four stages (conv2_x to conv5_x) of residual blocks; output stride 32."""
    x = pad(x, 3, name="stem_pad")
    x = conv_norm_act(x, ops, 64, 7, strides=2, padding="valid", use_bias=block == "bottleneck", name="stem_conv")
    x = pad(x, 1, name="stem_pool_pad")  # zeros lose to what a ReLU lets through
    x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    count = 0
    for stage, (depth, channels) in enumerate(zip(depths, _CHANNELS, strict=True), start=1):
        for index in range(1, depth + 1):
            count += 1
            x = _BLOCKS[block](
                x,
                ops,
                channels,
                strides=2 if index == 1 and stage > 1 else 1,
                depth=count / sum(depths),
                name=f"stage{stage}_block{index}",
            )
    return x


_TWINS = {
    # md5 of the weights, top-1, top-5 (keras.io)
    "resnet50": ("2cb95161c43110f7111970584f804107", 74.9, 92.1),
    "resnet101": ("f1aeb4b969a6efcfb50fad2f0c20cfc5", 76.4, 92.8),
    "resnet152": ("100835be76be38e30d865e96f2aaae62", 76.6, 93.1),
}


def _application(name: str) -> Application | None:
    if name not in _TWINS:
        return None
    md5, *_ = _TWINS[name]
    file = f"resnet/{name}_weights_tf_dim_ordering_tf_kernels.h5"
    return Application(name.replace("resnet", "ResNet"), file, md5=md5)


for _name, _block, _depths, _params, _macs in _TABLE1:
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="resnet",
            features=partial(features, block=_block, depths=_depths),
            paper="He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv:1512.03385",
            year=2015,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="torch" if _block == "basic" else "caffe",
            design={
                "norm": "batch",
                "bn_momentum": 0.99,
                "norm_epsilon": 1e-5 if _block == "basic" else 1.001e-5,
                "activation": "relu",
                "kernel_initializer": "he_normal",
                "dropout": 0.0,
                "drop_path": 0.0,
            },
            application=_application(_name),
            top1=_TWINS.get(_name, (None, None, None))[1],
            top5=_TWINS.get(_name, (None, None, None))[2],
            note="The paper's FLOPs are multiply-adds, some rounded down (ResNet-34: 3.6, ResNet-50: 3.8 billion).",
        ),
    )
