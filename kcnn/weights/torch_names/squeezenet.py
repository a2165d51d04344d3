"""SqueezeNet of torchvision."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed

TORCH_NAMES.add(
    "squeezenet",
    {
        "torchvision": renamed(
            (r"stem_conv", "features.0"),
            # Fire modules are counted from 2; in the sequence, each stage's pooling stands between.
            (
                r"stage(\d+)_fire(\d+)_(squeeze|expand1x1|expand3x3)",
                lambda stage, fire, conv: f"features.{fire + stage}.{conv}",
            ),
            (r"head_logits", "classifier.1"),
        )
    },
)
