"""Residual networks.

torchvision and timm call their layers alike; timm's ports of the authors' SENets and its pre-activation networks have
names of their own.
"""

from kcnn.weights.torch_names import TORCH_NAMES, renamed

_BLOCK = r"stage(\d+)_block(\d+)_"
_CONVOLUTIONS = (
    (_BLOCK + r"conv(\d)", lambda stage, block, conv: f"layer{stage}.{block - 1}.conv{conv}"),
    (_BLOCK + r"conv(\d)_norm", lambda stage, block, conv: f"layer{stage}.{block - 1}.bn{conv}"),
    (_BLOCK + "shortcut", lambda stage, block: f"layer{stage}.{block - 1}.downsample.0"),
    (_BLOCK + "shortcut_norm", lambda stage, block: f"layer{stage}.{block - 1}.downsample.1"),
)
_TORCHVISION = renamed(
    ("stem_conv", "conv1"),
    ("stem_conv3?_norm", "bn1"),
    (r"stem_conv(\d)", lambda conv: f"conv1.{3 * (conv - 1)}"),
    (r"stem_conv(\d)_norm", lambda conv: f"conv1.{3 * conv - 2}"),
    *_CONVOLUTIONS,
    (_BLOCK + "se_reduce", lambda stage, block: f"layer{stage}.{block - 1}.se.fc1"),
    (_BLOCK + "se_expand", lambda stage, block: f"layer{stage}.{block - 1}.se.fc2"),
    ("head_logits", "fc"),
)
_LEGACY_SENET = renamed(
    (r"stem_conv(\d?)", lambda conv: f"layer0.conv{conv or 1}"),
    (r"stem_conv(\d?)_norm", lambda conv: f"layer0.bn{conv or 1}"),
    *_CONVOLUTIONS,
    (_BLOCK + "se_reduce", lambda stage, block: f"layer{stage}.{block - 1}.se_module.fc1"),
    (_BLOCK + "se_expand", lambda stage, block: f"layer{stage}.{block - 1}.se_module.fc2"),
    ("head_logits", "last_linear"),
)
_RESNETV2 = renamed(
    ("stem_conv", "stem.conv"),
    (_BLOCK + "preact_norm", lambda stage, block: f"stages.{stage - 1}.blocks.{block - 1}.norm1"),
    (_BLOCK + r"conv(\d)", lambda stage, block, conv: f"stages.{stage - 1}.blocks.{block - 1}.conv{conv}"),
    (_BLOCK + r"conv(\d)_norm", lambda stage, block, conv: f"stages.{stage - 1}.blocks.{block - 1}.norm{conv + 1}"),
    (_BLOCK + "shortcut", lambda stage, block: f"stages.{stage - 1}.blocks.{block - 1}.downsample.conv"),
    ("stage4_post_norm", "norm"),
    ("head_logits", "head.fc"),
)

for _family in ("resnet", "resnext", "wideresnet"):
    TORCH_NAMES.add(_family, {"torchvision": _TORCHVISION, "timm": _TORCHVISION})
TORCH_NAMES.add("senet", {"timm": _TORCHVISION, "timm_legacy": _LEGACY_SENET})
TORCH_NAMES.add("resnetv2", {"timm": _RESNETV2})
