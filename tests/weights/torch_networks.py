"""Networks of torch projects, where torch is installed: random weights, random statistics, and their input.

torchvision and timm are installed without what they depend on, so what they import and never call here is made up.
"""

import importlib.machinery
import sys
from unittest import mock

import numpy as np
import torch

_OPERATORS = ("nms", "qnms", "roi_align", "_roi_align_backward", "qroi_align", "roi_pool", "_roi_pool_backward")
_OPERATORS += ("ps_roi_align", "_ps_roi_align_backward", "ps_roi_pool", "_ps_roi_pool_backward")
_OPERATORS += ("deform_conv2d", "_deform_conv2d_backward")
try:
    import torchvision
except RuntimeError:  # its operators are of another build than torch, and detection needs them alone
    _LIBRARY = torch.library.Library("torchvision", "DEF")
    for _name in _OPERATORS:
        _LIBRARY.define(f"{_name}(Tensor x) -> Tensor")
    import torchvision
try:
    import huggingface_hub  # noqa: F401
except ImportError:
    for _name in ("huggingface_hub", "huggingface_hub.utils"):
        sys.modules[_name] = mock.MagicMock(__spec__=importlib.machinery.ModuleSpec(_name, None))


def build(project, name, classes, pixels, seed=0):
    """(network in inference mode, for images like `pixels`; the mean and deviation of pixels 0-1 that it takes)."""
    torch.manual_seed(seed)
    if project.startswith("timm"):
        import timm

        network = timm.create_model(name, num_classes=classes)
        mean, deviation = network.default_cfg["mean"], network.default_cfg["std"]
    elif project == "efficientnet_lite_pytorch":
        from efficientnet_lite_pytorch import EfficientNet

        # Its convolutions pad for one size alone where they know it; its pixels are those of Google's training.
        network = EfficientNet.from_name(name, image_size=None, num_classes=classes)
        mean, deviation = [127 / 255] * 3, [128 / 255] * 3
    else:
        # As their pretrained networks are made.
        special = {"transform_input": True, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        network = torchvision.models.get_model(name, weights=None, num_classes=classes, **special)
        transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        mean, deviation = transforms.mean, transforms.std
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm) and module.weight is not None:
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    for parameter_name, parameter in network.named_parameters():
        if parameter_name.endswith(("gamma", "layer_scale")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    # The statistics of these images: with any others activations grow from block to block, and rounding with them.
    for norm in norms:
        norm.train().momentum = None
    logits(network, pixels, mean, deviation)
    for norm in norms:
        norm.eval()
    return network, mean, deviation


def logits(network, pixels, mean, deviation):
    """Classify images float32 [N, H, W, 3], 0-255 → [N, classes], in the precision of the network."""
    dtype = next(network.parameters()).dtype
    inputs = (pixels / 255 - np.array(mean)) / np.array(deviation)
    with torch.no_grad():
        return network(torch.from_numpy(inputs.transpose(0, 3, 1, 2)).to(dtype)).numpy()
