"""GoogLeNet in torchvision."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed

_BRANCHES = {"1x1": 1, "3x3": 2, "5x5": 3, "pool": 4}


def unit(module: str, norm: str | None) -> str:
    """Return the name of the batch norm, or else of the convolution, in a module of both."""
    return f"{module}.{'bn' if norm else 'conv'}"


def _inception(block: str, branch: str, index: int, norm: str | None) -> str:
    position = {"1x1": "", "pool": ".1"}.get(branch, f".{index - 1}")
    return unit(f"inception{block}.branch{_BRANCHES[branch]}{position}", norm)


TORCH_NAMES.add(
    "googlenet",
    {
        "torchvision": renamed(
            (r"stem_conv(\d)(_norm)?", lambda index, norm: unit(f"conv{index}", norm)),
            (r"stage\d_inception(\w+)_(1x1|3x3|5x5|pool)_conv(\d)(_norm)?", _inception),
            (r"head_aux(\d)_conv(_norm)?", lambda index, norm: unit(f"aux{index}.conv", norm)),
            (r"head_aux(\d)_fc", lambda index: f"aux{index}.fc1"),
            (r"head_aux(\d)_logits", lambda index: f"aux{index}.fc2"),
            (r"head_logits", "fc"),
        )
    },
)
