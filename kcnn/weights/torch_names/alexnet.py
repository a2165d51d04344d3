"""AlexNet of torchvision."""

from kcnn.weights.torch_names import TORCH_NAMES, renamed

_FEATURES = {1: 0, 2: 3, 3: 6, 4: 8, 5: 10}  # stage → place in the sequence

TORCH_NAMES.add(
    "alexnet",
    {
        "torchvision": renamed(
            (r"stage(\d+)_conv", lambda stage: f"features.{_FEATURES[stage]}"),
            (r"head_fc1", "classifier.1"),
            (r"head_fc2", "classifier.4"),
            (r"head_logits", "classifier.6"),
        )
    },
)
