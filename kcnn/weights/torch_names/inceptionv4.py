"""Inception v4 in timm, which numbers blocks through."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed
from kcnn.weights.torch_names.googlenet import unit

_BLOCKS = ("conv1", "conv2", "conv3", "3a", "4a", "5a", *(f"5{letter}" for letter in "bcde"))
_BLOCKS += (*(f"6{letter}" for letter in "abcdefgh"), *(f"7{letter}" for letter in "abcd"))


def _unit(block: str, module: str, norm: str | None) -> str:
    return unit(f"features.{_BLOCKS.index(block)}{module}", norm)


def _fan(block: str, branch: int, kernel: str, norm: str | None) -> str:
    return _unit(block, f".branch{branch}_{2 * branch - 1}{'a' if kernel == '1x3' else 'b'}", norm)


_BRANCH = r"\w+_mixed(\d\w)_branch"
TORCH_NAMES.add(
    "inceptionv4",
    {
        "timm": renamed(
            (r"stem_(conv\d)(_norm)?", lambda block, norm: _unit(block, "", norm)),
            (r"stem_mixed([35]a)_branch0_conv1(_norm)?", lambda block, norm: _unit(block, ".conv", norm)),
            (rf"{_BRANCH}3_conv1(_norm)?", lambda block, norm: _unit(block, ".branch3.1", norm)),
            (r"\w+_mixed(7[bcd])_branch(\d)_(1x3|3x1)_conv1(_norm)?", _fan),
            (
                r"\w+_mixed(7[bcd])_branch([12])_conv(\d)(_norm)?",
                lambda block, branch, index, norm: _unit(block, f".branch{branch}_{index - 1}", norm),
            ),
            (
                r"\w+_mixed([47]a)_branch(\d)_conv(\d)(_norm)?",
                lambda block, branch, index, norm: _unit(block, f".branch{branch}.{index - 1}", norm),
            ),
            (rf"{_BRANCH}0_conv1(_norm)?", lambda block, norm: _unit(block, ".branch0", norm)),
            (
                rf"{_BRANCH}(\d)_conv(\d)(_norm)?",
                lambda block, branch, index, norm: _unit(block, f".branch{branch}.{index - 1}", norm),
            ),
            (r"head_logits", "last_linear"),
        )
    },
)
