"""DenseNet of torchvision; timm's is a copy of it."""

from collections.abc import Callable

from kcnn.weights.torch_names import TORCH_NAMES, Names, renamed


def _names(separator: str) -> Names:
    """Make the names of a project that has `separator` between "norm", "conv" and their number in a dense layer."""

    def dense(kind: str, number: int) -> Callable[..., str]:
        suffix = f"{kind}{separator}{number}"
        return lambda stage, block: f"features.denseblock{stage}.denselayer{block}.{suffix}"

    return renamed(
        (r"stem_conv", "features.conv0"),
        (r"stem_conv_norm", "features.norm0"),
        (r"stage(\d+)_block(\d+)_norm", dense("norm", 1)),
        (r"stage(\d+)_block(\d+)_conv1", dense("conv", 1)),
        (r"stage(\d+)_block(\d+)_conv1_norm", dense("norm", 2)),
        (r"stage(\d+)_block(\d+)_conv2", dense("conv", 2)),
        (r"stage(\d+)_transition_(norm|conv)", lambda stage, kind: f"features.transition{stage - 1}.{kind}"),
        (r"stage4_final_norm", "features.norm5"),
        (r"head_logits", "classifier"),
    )


# Both projects' networks have the first names; the files that torchvision published are older, and have the second.
TORCH_NAMES.add("densenet", {"timm": _names(""), "torchvision": _names(".")})
