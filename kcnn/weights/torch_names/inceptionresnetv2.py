"""Inception-ResNet v2 in timm."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed
from kcnn.weights.torch_names.googlenet import unit

_STEM = ("1a", "2a", "2b", "3b", "4a")
_REPEATS = ("repeat", "repeat_1", "repeat_2")


def _block(stage: int, index: int) -> str:
    return "block8" if (stage, index) == (3, 10) else f"{_REPEATS[stage - 1]}.{index - 1}"


TORCH_NAMES.add(
    "inceptionresnetv2",
    {
        "timm": renamed(
            (r"stem_conv(\d)(_norm)?", lambda index, norm: unit(f"conv2d_{_STEM[index - 1]}", norm)),
            (r"stage\d_mixed5b_branch3_conv1(_norm)?", lambda norm: unit("mixed_5b.branch3.1", norm)),
            (r"stage\d_mixed(5b|6a)_branch0_conv1(_norm)?", lambda name, norm: unit(f"mixed_{name}.branch0", norm)),
            (
                r"stage\d_mixed(\w+)_branch(\d)_conv(\d)(_norm)?",
                lambda name, branch, index, norm: unit(f"mixed_{name}.branch{branch}.{index - 1}", norm),
            ),
            (
                r"stage(\d)_block(\d+)_branch0_conv1(_norm)?",
                lambda stage, index, norm: unit(f"{_block(stage, index)}.branch0", norm),
            ),
            (
                r"stage(\d)_block(\d+)_branch(\d)_conv(\d)(_norm)?",
                lambda stage, index, branch, conv, norm: unit(
                    f"{_block(stage, index)}.branch{branch}.{conv - 1}", norm
                ),
            ),
            (r"stage(\d)_block(\d+)_conv", lambda stage, index: f"{_block(stage, index)}.conv2d"),
            (r"stage3_conv7b(_norm)?", lambda norm: unit("conv2d_7b", norm)),
            (r"head_logits", "classif"),
        )
    },
)
