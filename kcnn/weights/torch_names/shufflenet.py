"""ShuffleNetV2 of torchvision."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed

# Our layers of a unit → their places in torchvision's branches.
_UNIT = {
    "shortcut_depthwise": "branch1.0",
    "shortcut_depthwise_norm": "branch1.1",
    "shortcut_conv": "branch1.2",
    "shortcut_conv_norm": "branch1.3",
    "conv1": "branch2.0",
    "conv1_norm": "branch2.1",
    "depthwise": "branch2.3",
    "depthwise_norm": "branch2.4",
    "conv2": "branch2.5",
    "conv2_norm": "branch2.6",
}

TORCH_NAMES.add(
    "shufflenetv2",
    {
        "torchvision": renamed(
            (r"stem_conv", "conv1.0"),
            (r"stem_conv_norm", "conv1.1"),
            (r"stage4_conv", "conv5.0"),
            (r"stage4_conv_norm", "conv5.1"),
            (r"stage(\d+)_unit(\d+)_(\w+)", lambda stage, unit, name: f"stage{stage + 1}.{unit - 1}.{_UNIT[name]}"),
            (r"head_logits", "fc"),
        )
    },
)
