"""ConvNeXt in torchvision and timm."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed

# torchvision counts stem, stages and downsamplings together: features.0 to features.7.
_TORCHVISION = {
    "depthwise": "block.0",
    "norm": "block.2",
    "expand": "block.3",
    "project": "block.5",
    "scale": "layer_scale",
}
_TIMM = {"depthwise": "conv_dw", "norm": "norm", "expand": "mlp.fc1", "project": "mlp.fc2", "scale": "gamma"}

TORCH_NAMES.add(
    "convnext",
    {
        "torchvision": renamed(
            (r"stem_conv", "features.0.0"),
            (r"stem_norm", "features.0.1"),
            (r"stage(\d+)_downsample_norm", lambda stage: f"features.{2 * stage - 2}.0"),
            (r"stage(\d+)_downsample_conv", lambda stage: f"features.{2 * stage - 2}.1"),
            (
                r"stage(\d+)_block(\d+)_(.+)",
                lambda stage, block, part: f"features.{2 * stage - 1}.{block - 1}.{_TORCHVISION[part]}",
            ),
            (r"head_norm", "classifier.0"),
            (r"head_logits", "classifier.2"),
        ),
        "timm": renamed(
            (r"stem_conv", "stem.0"),
            (r"stem_norm", "stem.1"),
            (r"stage(\d+)_downsample_norm", lambda stage: f"stages.{stage - 1}.downsample.0"),
            (r"stage(\d+)_downsample_conv", lambda stage: f"stages.{stage - 1}.downsample.1"),
            (
                r"stage(\d+)_block(\d+)_(.+)",
                lambda stage, block, part: f"stages.{stage - 1}.blocks.{block - 1}.{_TIMM[part]}",
            ),
            (r"head_norm", "head.norm"),
            (r"head_logits", "head.fc"),
        ),
    },
)
