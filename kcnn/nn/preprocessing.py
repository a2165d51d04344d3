"""Raw RGB, 0-255, → what a family was trained on, as layers inside the model."""

import keras
import numpy as np
from keras import KerasTensor

from kcnn.nn.layers import ReverseChannels

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# Mean of ImageNet's training images, blue, green, red (Simonyan & Zisserman, section 2.1, in Caffe's channel order).
_CAFFE_MEAN = (103.939, 116.779, 123.68)

# mode → (scale, offset), one number or one for each channel
_AFFINE: dict[str, tuple[float | list[float], float | list[float]]] = {
    "tf": (1 / 127.5, -1.0),
    "tf127": (1 / 128, -127 / 128),
    "tf128": (1 / 128, -1.0),
    "torch": (
        [1 / (255 * std) for std in _IMAGENET_STD],
        [-mean / std for mean, std in zip(_IMAGENET_MEAN, _IMAGENET_STD, strict=True)],
    ),
    "caffe": (1.0, [-mean for mean in _CAFFE_MEAN]),
}
MODES = (*_AFFINE, "none")


def normalize_pixels(x: KerasTensor, mode: str) -> KerasTensor:
    """Normalise raw pixels, in float32 under every dtype policy.

    Args:
        x: float [N, H, W, 3], RGB, 0-255.
        mode: "tf" scales to -1...1; "tf127" subtracts 127 and divides by 128; "tf128" divides by 128 and subtracts 1;
            "torch" subtracts ImageNet's mean and divides by its deviation, of pixels in 0...1; "caffe" turns RGB to BGR
            and subtracts ImageNet's mean; "none" leaves them.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"unknown preprocessing {mode!r}: expected one of {', '.join(MODES)}")
    if mode == "none":
        return x
    if mode == "caffe":
        x = ReverseChannels(dtype="float32", name="preprocess_bgr")(x)
    scale, offset = _AFFINE[mode]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocess_rescale")(x)


def describe_normalization(mode: str) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation, red, green, blue, that a mode takes of pixels in 0...1, as torch writes it."""
    scale, offset = (np.broadcast_to(value, 3) for value in _AFFINE.get(mode, (1.0, 0.0)))
    order = slice(None, None, -1 if mode == "caffe" else 1)
    return (-offset / scale / 255)[order].tolist(), (1 / scale / 255)[order].tolist()
