"""Inception v3 in torchvision and timm."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed
from kcnn.weights.torch_names.googlenet import unit

_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
_MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
_WHOLE = {"1x1": "branch1x1", "pool": "branch_pool"}  # branches of one convolution
_FANS = {"3x3_1x3": "3x3_2a", "3x3_3x1": "3x3_2b", "3x3dbl_1x3": "3x3dbl_3a", "3x3dbl_3x1": "3x3dbl_3b"}


def _mixed(block: int, branch: str, index: int, norm: str | None) -> str:
    if (block, branch) == (3, "3x3"):
        module = "branch3x3"
    else:
        module = _WHOLE.get(branch, f"branch{_FANS.get(branch, f'{branch}_{index}')}")
    return unit(f"Mixed_{_MIXED[block]}.{module}", norm)


_NAMES = renamed(
    (r"stem_conv(\d)(_norm)?", lambda index, norm: unit(_STEM[index - 1], norm)),
    (r"stage\d_mixed(\d+)_(\w+)_conv(\d)(_norm)?", _mixed),
    (r"head_aux1_conv(\d)(_norm)?", lambda index, norm: unit(f"AuxLogits.conv{index - 1}", norm)),
    (r"head_aux1_logits", "AuxLogits.fc"),
    (r"head_logits", "fc"),
)
TORCH_NAMES.add("inceptionv3", {"torchvision": _NAMES, "timm": _NAMES})
