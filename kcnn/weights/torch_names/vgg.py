"""VGG of torchvision and of timm, which has its dense layers as convolutions."""

from kcnn.weights.torch_names import TORCH_NAMES, Names

_TORCHVISION = {"head_fc1": "classifier.0", "head_fc2": "classifier.3", "head_logits": "classifier.6"}
_TIMM = {"head_fc1": "pre_logits.fc1", "head_fc2": "pre_logits.fc2", "head_logits": "head.fc"}


def _names(head: dict[str, str]) -> Names:
    def names(layers: list[str]) -> dict[str, str]:
        """Assign numbers to one sequence of convolutions, batch norms, activations and poolings."""
        found = {layer: head[layer] for layer in layers if layer in head}
        place, stage = 0, "stage1"
        for layer in layers:
            if layer in head:
                continue
            if not layer.startswith(f"{stage}_"):
                place, stage = place + 1, layer.split("_")[0]  # the pooling
            if layer.endswith("_norm"):
                found[layer] = f"features.{place - 1}"
                place += 1
            else:
                found[layer] = f"features.{place}"
                place += 2
        return found

    return names


TORCH_NAMES.add("vgg", {"torchvision": _names(_TORCHVISION), "timm": _names(_TIMM)})
