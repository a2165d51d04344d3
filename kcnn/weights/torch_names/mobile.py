"""MobileNets and EfficientNets in torchvision and timm, which count the parts of a block in ways of their own."""

import re
from collections.abc import Callable
from typing import NamedTuple

from kcnn.weights.torch_names import TORCH_NAMES, Names, renamed

_LAYER = re.compile(r"stage(\d+)_(?:block(\d+)_)?([a-z]+)_?(.*)")


class _Place(NamedTuple):
    """The position of a layer: stage, block there, number of that block in all the network, from 0; the block's parts.

    The layer is the convolution of a part where `rest` is empty, its normalisation where that is "norm".
    """

    stage: int
    block: int
    number: int
    parts: list[str]
    part: str
    rest: str


def _places(layers: list[str]) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    blocks: dict[tuple[str, str | None], list[str]] = {}
    for layer in layers:
        if match := _LAYER.fullmatch(layer):
            stage, index, part, rest = match.groups()
            parts = blocks.setdefault((stage, index), [])
            if part not in parts:
                parts.append(part)
            places[layer] = _Place(int(stage) - 1, int(index or 1) - 1, len(blocks) - 1, parts, part, rest)
    return places


def _names(in_stage: Callable[[_Place], str], **others: str) -> Names:
    """Make the names of the layers in stages, and of those in the stem and the head."""
    return lambda layers: {
        **renamed(*others.items())(layers),
        **{layer: in_stage(place) for layer, place in _places(layers).items()},
    }


_TIMM = {
    # the parts of a block but squeeze-and-excitation → its convolutions
    ("depthwise", "pointwise"): ("conv_dw", "conv_pw"),
    ("depthwise", "project"): ("conv_dw", "conv_pw"),
    ("expand", "depthwise", "project"): ("conv_pw", "conv_dw", "conv_pwl"),
    ("fused", "project"): ("conv_exp", "conv_pwl"),
    ("fused",): ("conv",),
    ("conv",): ("conv",),
}


def _in_timm(at: _Place) -> str:
    parts = tuple(part for part in at.parts if part != "se")
    if at.part == "se":
        name = f"se.conv_{at.rest}"
    elif at.rest == "norm":
        name = f"bn{parts.index(at.part) + 1}"
    else:
        name = _TIMM[parts][parts.index(at.part)]
    return f"blocks.{at.stage}.{at.block}.{name}"


def _in_timm_efficientnet(at: _Place) -> str:
    if at.part == "conv":
        return "bn2" if at.rest else "conv_head"
    return _in_timm(at)


# A block's part → its convolution and its normalisation, in blocks without an expansion too.
_LITE = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def _in_efficientnet_lite_pytorch(at: _Place) -> str:
    if at.part == "conv":
        return "_bn1" if at.rest else "_conv_head"
    return f"_blocks.{at.number}.{_LITE[at.part][bool(at.rest)]}"


# What is left of a layer's name → its place in a part of torchvision's blocks.
_IN_PART = {"": "0", "norm": "1", "reduce": "fc1", "expand": "fc2"}


def _in_mobilenetv2(at: _Place) -> str:
    place, module = at.parts.index(at.part), f"features.{at.number + 1}"
    if at.part == "conv":
        return f"{module}.{_IN_PART[at.rest]}"
    if at.part == "project":
        return f"{module}.conv.{place + int(_IN_PART[at.rest])}"
    return f"{module}.conv.{place}.{_IN_PART[at.rest]}"


def _in_mobilenetv3(at: _Place) -> str:
    part = "" if at.part == "conv" else f"block.{at.parts.index(at.part)}."
    return f"features.{at.number + 1}.{part}{_IN_PART[at.rest]}"


def _in_efficientnet(at: _Place) -> str:
    part = "" if at.part == "conv" else f"{at.block}.block.{at.parts.index(at.part)}."
    return f"features.{at.stage + 1}.{part}{_IN_PART[at.rest]}"


_TORCHVISION_STEM = {"stem_conv": "features.0.0", "stem_conv_norm": "features.0.1"}
_TIMM_ENDS = {"stem_conv": "conv_stem", "stem_conv_norm": "bn1", "head_fc": "conv_head", "head_logits": "classifier"}
_EFFICIENTNET = {
    "torchvision": _names(_in_efficientnet, **_TORCHVISION_STEM, head_logits="classifier.1"),
    "timm": _names(_in_timm_efficientnet, **_TIMM_ENDS),
}

TORCH_NAMES.add("mobilenet", {"timm": _names(_in_timm, **_TIMM_ENDS)})
TORCH_NAMES.add(
    "mobilenetv2",
    {
        "torchvision": _names(_in_mobilenetv2, **_TORCHVISION_STEM, head_logits="classifier.1"),
        "timm": _names(_in_timm_efficientnet, **_TIMM_ENDS),
    },
)
TORCH_NAMES.add(
    "mobilenetv3",
    {
        "torchvision": _names(_in_mobilenetv3, **_TORCHVISION_STEM, head_fc="classifier.0", head_logits="classifier.3"),
        "timm": _names(_in_timm, **_TIMM_ENDS),
    },
)
TORCH_NAMES.add("efficientnet", _EFFICIENTNET)
TORCH_NAMES.add("efficientnetv2", _EFFICIENTNET)
TORCH_NAMES.add(
    "efficientnetlite",
    {
        "efficientnet_lite_pytorch": _names(
            _in_efficientnet_lite_pytorch, stem_conv="_conv_stem", stem_conv_norm="_bn0", head_logits="_fc"
        ),
        "timm": _EFFICIENTNET["timm"],
    },
)
