"""Inception-ResNet v2 (Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017).

The network of the authors' release (tensorflow/models, slim/nets/inception_resnet_v2) and keras.applications: figure 15
with twice as many blocks, behind the stem of Inception v3 and a first module like its own. Batch norm has no scale; the
convolution behind a block's branches has a bias and no batch norm. `inceptionresnetv2.torch` is timm's, with a scale.
"""

from typing import Any

import keras

from kcnn.models.inception_v1 import concat
from kcnn.models.inception_v3 import stem
from kcnn.models.inception_v4 import branches, pooled_branch, reduction
from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops, conv_norm_act

_STAGES = (
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
_DEPTH = sum(repeats for repeats, *_ in _STAGES)


def _block(x: Any, ops: Ops, name: str, rows: tuple[Any, ...], *, scale: float, depth: float) -> Any:
    """Branches, a linear 1x1 convolution, and a share of that added to the input."""
    branch = concat(name, *branches(x, ops, name, *rows))
    branch = ops.conv(branch, x.shape[-1], 1, use_bias=True, name=f"{name}_conv")
    branch = keras.layers.Rescaling(scale, name=f"{name}_scale")(branch)
    return ops.residual(x, branch, depth=depth, name=name)


def features(x: Any, ops: Ops) -> Any:
    """Stem; grids of 35x35 (stage1), 17x17 (stage2) and 8x8 (stage3) at an input of 299."""
    x = stem(x, ops)
    count = 0
    for stage, (repeats, scale, rows) in enumerate(_STAGES, start=1):
        if stage == 1:
            name = "stage1_mixed5b"
            pooled = pooled_branch(x, ops, f"{name}_branch3", 64)
            x = concat(name, *branches(x, ops, name, *_MIXED_5B), pooled)
        elif stage == 2:
            x = reduction(x, ops, "stage2_mixed6a", *_MIXED_6A)
        else:
            x = reduction(x, ops, "stage3_mixed7a", *_MIXED_7A)
        for index in range(1, repeats + 1):
            count += 1
            last = count == _DEPTH  # the release adds all of it, and stays linear
            name = f"stage{stage}_block{index}"
            x = _block(x, ops, name, rows, scale=1.0 if last else scale, depth=count / _DEPTH)
            x = x if last else ops.activate(x, name=f"{name}_act")
    return conv_norm_act(x, ops, 1536, 1, name="stage3_conv7b")


_TWIN = Application(
    "InceptionResNetV2",
    "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels.h5",
    file_hash="e693bd0210a403b3192acc6073ad2e96",
)
_ROWS: tuple[tuple[Any, ...], ...] = (
    # name, scale of batch norm, parameters, keras.applications, torch, top-1, top-5
    ("inceptionresnetv2", False, 55_813_192, _TWIN, {}, 80.3, 95.3),
    ("inceptionresnetv2.torch", True, 55_843_464, None, {"timm": "inception_resnet_v2"}, 80.4, 95.3),
)

for _name, _scale, _params, _application, _torch, _top1, _top5 in _ROWS:
    MODELS.add(
        _name,
        ModelSpec(
            name=_name,
            family="inceptionresnetv2",
            features=features,
            paper="Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, "
            "AAAI 2017, arXiv:1602.07261",
            year=2016,
            input_size=299,
            min_size=75,
            params=_params,
            macs=13_155_794_016,
            preprocessing="tf",
            design={
                "norm": "batch",
                "bn_momentum": 0.99,
                "norm_scale": _scale,
                "activation": "relu",
                "kernel_initializer": "he_normal",
                "dropout": 0.2,
                "drop_path": 0.0,
            },
            application=_application,
            torch=_torch,
            top1=_top1,
            top5=_top5,
        ),
    )
