"""Xception (Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017).

Figure 5, with the dropout of section 4.3; blocks are numbered as in keras.applications. `drop_path` drops residual
branches of the middle flow, those with an identity beside them. `xception.torch` is timm's port (legacy_xception).
"""

from typing import Any

import keras
from keras import KerasTensor

from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm, conv_norm_act


def _separable(x: KerasTensor, ops: Ops, *filters: int, name: str, leading: bool = True) -> KerasTensor:
    """Build separable 3x3 convolutions, an activation before each (the first if `leading`), batch norm after each."""
    for index, channels in enumerate(filters, start=1):
        conv = f"{name}_sepconv{index}"
        if leading or index > 1:
            x = ops.activate(x, name=f"{conv}_act")
        x = ops.normalize(ops.separable(x, channels, 3, name=conv), name=f"{conv}_norm")
    return x


def _reduction(x: KerasTensor, ops: Ops, *filters: int, name: str, leading: bool = True) -> KerasTensor:
    """Build separable convolutions and max pooling beside a projection."""
    shortcut = conv_norm(x, ops, filters[-1], 1, strides=2, name=f"{name}_shortcut")
    x = ops.max_pool(_separable(x, ops, *filters, name=name, leading=leading), 3, 2, name=f"{name}_pool")
    return keras.layers.Add(name=f"{name}_add")([x, shortcut])


def features(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build entry flow (stem, stage1 to 3), middle flow (the rest of stage3), exit flow (stage4); output stride 32."""
    x = conv_norm_act(x, ops, 32, 3, strides=2, padding="valid", name="stem_conv1")
    x = conv_norm_act(x, ops, 64, 3, padding="valid", name="stem_conv2")
    x = _reduction(x, ops, 128, 128, leading=False, name="stage1_block2")
    x = _reduction(x, ops, 256, 256, name="stage2_block3")
    x = _reduction(x, ops, 728, 728, name="stage3_block4")
    for index in range(8):
        name = f"stage3_block{index + 5}"
        branch = _separable(x, ops, 728, 728, 728, name=name)
        x = ops.residual(x, branch, drop_rate=(index + 1) / 8 * ops.drop_path, name=name)
    x = _reduction(x, ops, 728, 1024, name="stage4_block13")
    x = _separable(x, ops, 1536, 2048, leading=False, name="stage4_block14")
    return ops.activate(x, name="stage4_block14_act")


def _row(name: str, epsilon: float, padding: str, top1: float, top5: float, **twins: Any) -> ModelSpec:
    return ModelSpec(
        name,
        family="xception",
        features=features,
        paper="Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017, arXiv:1610.02357",
        year=2016,
        input_size=299,
        min_size=71,
        params=22_855_952,
        macs=8_357_403_496,
        preprocessing="tf",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_epsilon": epsilon,
            "padding": padding,
            "activation": "relu",
            "kernel_initializer": "lecun_normal",  # of two layers with one ReLU; the other has He's gain
            "dropout": 0.5,
            "dropconnect": 0.0,
            "drop_path": 0.0,
        },
        top1=top1,
        top5=top5,
        **twins,
    )


_TWIN = Application(
    "Xception",
    "xception/xception_weights_tf_dim_ordering_tf_kernels.h5",
    file_hash="0a58e3b7378bc2990ea3b43d5981f1f6",
)
# epsilon, padding, top-1, top-5 (keras.io, timm's results), twins
register(
    _row("xception", 1e-3, "same", 79.0, 94.5, application=_TWIN),
    _row("xception.torch", 1e-5, "symmetric", 79.04, 94.38, torch={"timm": "legacy_xception"}),
)
