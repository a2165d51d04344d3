"""Xception in timm (legacy_xception), whose blocks count from the first after the stem."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed

_PARTS = {"depthwise": ".conv1", "pointwise": ".pointwise"}


def _separable(block: int, index: int, part: str) -> str:
    if block == 14:
        return f"bn{index + 2}" if part == "norm" else f"conv{index + 2}{_PARTS[part]}"
    position = 3 * index - (3 if block == 2 else 2)  # the first block has no activation before it
    return f"block{block - 1}.rep.{position + 1 if part == 'norm' else position}{_PARTS.get(part, '')}"


TORCH_NAMES.add(
    "xception",
    {
        "timm": renamed(
            (r"stem_conv(\d)", lambda index: f"conv{index}"),
            (r"stem_conv(\d)_norm", lambda index: f"bn{index}"),
            (r"stage\d_block(\d+)_sepconv(\d)_(depthwise|pointwise|norm)", _separable),
            (r"stage\d_block(\d+)_shortcut", lambda block: f"block{block - 1}.skip"),
            (r"stage\d_block(\d+)_shortcut_norm", lambda block: f"block{block - 1}.skipbn"),
            (r"head_logits", "fc"),
        )
    },
)
