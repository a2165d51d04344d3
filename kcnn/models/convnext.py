"""ConvNeXt (Liu et al., "A ConvNet for the 2020s", CVPR 2022).

Section 3, "Macro design" to "Micro design", and table 9; figure 4 has the block. Stochastic depth is that of the
paper's training from scratch (table 5, on ImageNet-1K; ConvNeXt-XL, which was trained on ImageNet-22K alone, has its
rate there) and rises from 0 at the first block. Deviation: kernels begin with the standard deviation that Keras'
truncated normal has, 0.05; the paper's is 0.02, and layer normalisation sets the scale behind either.
"""

from functools import partial
from typing import Any

import keras

from kcnn.models.spec import MODELS, Application, ModelSpec
from kcnn.nn.blocks import Ops
from kcnn.nn.heads import logits
from kcnn.nn.normalization import LayerNorm, LayerScale

_EPSILON = 1e-6
_EXPANSION = 4
_VARIANTS = (
    # name, blocks per stage, channels, stochastic depth, parameters, multiply-adds, top-1 and sha256 of Keras' weights
    ("tiny", (3, 3, 9, 3), (96, 192, 384, 768), 0.1, 28_589_128, 4_455_531_264, 81.3,
     "8ae6e78ce2933352b1ef4008e6dd2f17bc40771563877d156bc6426c7cf503ff"),
    ("small", (3, 3, 27, 3), (96, 192, 384, 768), 0.4, 50_223_688, 8_683_712_256, 82.3,
     "ce1277d8f1ee5a0ef0e171469089c18f5233860ceaf9b168049cb9263fd7483c"),
    ("base", (3, 3, 27, 3), (128, 256, 512, 1024), 0.5, 88_591_464, 15_354_729_472, 85.3,
     "52cbb006d3dadd03f6e095a8ca1aca47aecdd75acb4bc74bce1f5c695d0086e6"),
    ("large", (3, 3, 27, 3), (192, 384, 768, 1536), 0.5, 197_767_336, 34_361_433_600, 86.3,
     "070c5ed9ed289581e477741d3b34beffa920db8cf590899d6d2c67fba2a198a6"),
    ("xlarge", (3, 3, 27, 3), (256, 512, 1024, 2048), 0.2, 350_196_968, 60_921_030_656, 86.7,
     "c1f5ccab661354fc3a79a10fa99af82f0fbf10ec65cb894a3ae0815f17a889ee"),
)  # fmt: skip


def _block(x: Any, ops: Ops, *, scale: float, depth: float, name: str) -> Any:
    """Figure 4, right: 7x7 depthwise, 1x1 to four times the channels, 1x1 back; one norm, one activation."""
    shortcut, channels = x, x.shape[-1]
    x = ops.conv(x, channels, 7, groups=channels, use_bias=True, name=f"{name}_depthwise")
    x = LayerNorm(epsilon=_EPSILON, name=f"{name}_norm")(x)
    x = ops.conv(x, _EXPANSION * channels, 1, use_bias=True, name=f"{name}_expand")
    x = ops.activate(x, name=f"{name}_act")
    x = ops.conv(x, channels, 1, use_bias=True, name=f"{name}_project")
    x = LayerScale(scale, name=f"{name}_scale")(x)
    return ops.residual(shortcut, x, depth=depth, name=name)


def features(x: Any, ops: Ops, *, depths: tuple[int, ...], channels: tuple[int, ...], layer_scale: float) -> Any:
    """A 4x4 convolution at stride 4, four stages, each but the first behind a 2x2 one at stride 2; output stride 32."""
    x = ops.conv(x, channels[0], 4, strides=4, padding="valid", use_bias=True, name="stem_conv")
    x = LayerNorm(epsilon=_EPSILON, name="stem_norm")(x)
    count, last = 0, sum(depths) - 1
    for stage, (depth, width) in enumerate(zip(depths, channels, strict=True), start=1):
        if stage > 1:
            x = LayerNorm(epsilon=_EPSILON, name=f"stage{stage}_downsample_norm")(x)
            x = ops.conv(x, width, 2, strides=2, padding="valid", use_bias=True, name=f"stage{stage}_downsample_conv")
        for index in range(1, depth + 1):
            x = _block(x, ops, scale=layer_scale, depth=count / last, name=f"stage{stage}_block{index}")
            count += 1
    return x


def _head(x: Any, ops: Ops, num_classes: int) -> Any:
    """Global average pooling, layer normalisation, one dense layer."""
    x = keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    x = LayerNorm(epsilon=_EPSILON, name="head_norm")(x)
    if ops.dropout:
        x = keras.layers.Dropout(ops.dropout, name="head_dropout")(x)
    return logits(x, num_classes)


for _variant, _depths, _channels, _drop_path, _params, _macs, _top1, _sha256 in _VARIANTS:
    _torch = f"convnext_{_variant}"
    MODELS.add(
        f"convnext{_variant}",
        ModelSpec(
            name=f"convnext{_variant}",
            family="convnext",
            features=partial(features, depths=_depths, channels=_channels),
            paper="Liu et al., A ConvNet for the 2020s, CVPR 2022, arXiv:2201.03545",
            year=2022,
            input_size=224,
            min_size=32,
            params=_params,
            macs=_macs,
            preprocessing="torch",
            design={
                "layer_scale": 1e-6,
                "activation": "gelu",
                "kernel_initializer": "truncated_normal",
                "dropout": 0.0,
                "drop_path": _drop_path,
            },
            head=_head,
            application=Application(
                "ConvNeXt" + {"xlarge": "XLarge"}.get(_variant, _variant.title()),
                f"convnext/convnext_{_variant}.h5",
                file_hash=_sha256,
            ),
            torch={"timm": _torch} if _variant == "xlarge" else {"torchvision": _torch, "timm": _torch},
            top1=_top1,
            note="The paper rounds: 29/50/89/198/350 M parameters and 4.5/8.7/15.4/34.4/60.9 billion multiply-adds. "
            "Keras' weights of base and larger were pre-trained on ImageNet-22K; it gives no top-5.",
        ),
    )
