"""Inception-ResNet v2 (Szegedy et al., AAAI 2017).

"Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning".

The network of the authors' release (tensorflow/models, slim/nets/inception_resnet_v2) and keras.applications: figure 15
with twice as many blocks, after the stem of Inception v3 and a first module like its own. Batch norm has no scale; the
convolution after a block's branches has a bias and no batch norm. `inceptionresnetv2.torch` is timm's, with a scale.
"""

from typing import Any

import keras
from keras import KerasTensor

from kcnn.models.inception_v1 import concat
from kcnn.models.inception_v3 import stem
from kcnn.models.inception_v4 import branches, pooled_branch, reduction
from kcnn.models.spec import Application, ModelSpec, register
from kcnn.nn.blocks import Ops, conv_norm_act
from kcnn.nn.stages import BlockPosition, block_positions

_STAGES: tuple[tuple[int, float, tuple[Any, ...]], ...] = (
    # repeats, scale (section 3.3), branches
    (10, 0.17, (((32, 1),), ((32, 1), (32, 3)), ((32, 1), (48, 3), (64, 3)))),  # figure 16
    (20, 0.10, (((192, 1),), ((128, 1), (160, (1, 7)), (192, (7, 1))))),  # figure 17
    (10, 0.20, (((192, 1),), ((192, 1), (224, (1, 3)), (256, (3, 1))))),  # figure 19
)
_MIXED_5B = (((96, 1),), ((48, 1), (64, 5)), ((64, 1), (96, 3), (96, 3)))
_MIXED_6A = (((384, 3, 2, "valid"),), ((256, 1), (256, 3), (384, 3, 2, "valid")))
_MIXED_7A = (
    ((256, 1), (384, 3, 2, "valid")),
    ((256, 1), (288, 3, 2, "valid")),
    ((256, 1), (288, 3), (320, 3, 2, "valid")),
)


def _block(x: KerasTensor, ops: Ops, at: BlockPosition, rows: tuple[Any, ...], *, scale: float) -> KerasTensor:
    """Build branches, a linear 1x1 convolution, and the sum of a share of that and the input."""
    branch = concat(at.name, *branches(x, ops, at.name, *rows))
    branch = ops.conv(branch, x.shape[-1], 1, use_bias=True, name=f"{at.name}_conv")
    branch = keras.layers.Rescaling(scale, name=f"{at.name}_scale")(branch)
    return ops.residual(x, branch, drop_rate=at.drop_rate, name=at.name)


def _entrance(x: KerasTensor, ops: Ops, stage: int) -> KerasTensor:
    """Build the module before the blocks of a stage."""
    if stage == 2:
        return reduction(x, ops, "stage2_mixed6a", *_MIXED_6A)
    if stage == 3:
        return reduction(x, ops, "stage3_mixed7a", *_MIXED_7A)
    name = "stage1_mixed5b"
    pooled = pooled_branch(x, ops, f"{name}_branch3", 64)
    return concat(name, *branches(x, ops, name, *_MIXED_5B), pooled)


def features(x: KerasTensor, ops: Ops) -> KerasTensor:
    """Build the stem; grids of 35x35 (stage1), 17x17 (stage2) and 8x8 (stage3) at an input of 299."""
    x = stem(x, ops)
    repeats = [row[0] for row in _STAGES]
    for at in block_positions(repeats, [1] * len(repeats), drop_path=ops.drop_path):
        if at.index == 1:
            x = _entrance(x, ops, at.stage)
        last = (at.stage, at.index) == (len(repeats), repeats[-1])  # the release adds all of it, and stays linear
        _, scale, rows = _STAGES[at.stage - 1]
        x = _block(x, ops, at, rows, scale=1.0 if last else scale)
        x = x if last else ops.activate(x, name=f"{at.name}_act")
    return conv_norm_act(x, ops, 1536, 1, name="stage3_conv7b")


def _row(name: str, norm_scale: bool, params: int, top1: float, top5: float, **twins: Any) -> ModelSpec:
    return ModelSpec(
        name,
        family="inceptionresnetv2",
        features=features,
        paper="Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, "
        "AAAI 2017, arXiv:1602.07261",
        year=2016,
        input_size=299,
        min_size=75,
        params=params,
        macs=13_155_794_016,
        preprocessing="tf",
        design={
            "norm": "batch",
            "bn_momentum": 0.99,
            "norm_scale": norm_scale,
            "activation": "relu",
            "kernel_initializer": "he_normal",
            "dropout": 0.2,
            "dropconnect": 0.0,
            "drop_path": 0.0,
        },
        top1=top1,
        top5=top5,
        **twins,
    )


_TWIN = Application(
    "InceptionResNetV2",
    "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
    file_hash="e693bd0210a403b3192acc6073ad2e96",
)
# scale of batch norm, parameters, top-1, top-5, twins
register(
    _row("inceptionresnetv2", False, 55_813_192, 80.3, 95.3, application=_TWIN),
    _row("inceptionresnetv2.torch", True, 55_843_464, 80.4, 95.3, torch={"timm": "inception_resnet_v2"}),
)
