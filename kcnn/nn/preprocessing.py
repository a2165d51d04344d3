"""Raw RGB, 0-255, → what a network is trained on, as layers inside the model."""

import math

import keras
import numpy as np
from keras import KerasTensor

from kcnn.errors import UserError
from kcnn.nn.layers import ReverseChannels
from kcnn.nn.pixel_layers import (
    LUMA,
    ChannelDeviation,
    ChannelMean,
    Luminance,
    MeanImage,
    PCAWhitening,
    ZCAWhitening,
)

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
# mode → its layers, which have numbers of the training images (`kcnn.training.pixel_statistics`) among their weights
FITTED: dict[str, tuple[type[keras.layers.Layer], ...]] = {
    "mean_image": (MeanImage,),
    "mean": (ChannelMean,),
    "standardize": (ChannelMean, ChannelDeviation),
    "pca": (MeanImage, PCAWhitening),
    "zca": (MeanImage, ZCAWhitening),
}
MODES = (*_AFFINE, *FITTED, "none")
# The numbers of an image that whitening takes at most. The square of 4096 is 67 MB as the layer's weights, and six
# times that while it is fitted, in half a minute on two cores; twice the side would be 16 times as much of both.
MOST_WHITENED = 4096


def normalize_pixels(x: KerasTensor, mode: str, channels: int = 3) -> KerasTensor:
    """Normalise raw pixels, in float32 under every dtype policy.

    Args:
        x: float [N, H, W, 3], RGB, 0-255.
        mode: "tf" scales to -1...1; "tf127" subtracts 127 and divides by 128; "tf128" divides by 128 and subtracts 1;
            "torch" subtracts ImageNet's mean and divides by its deviation, of pixels in 0...1; "caffe" turns RGB to BGR
            and subtracts ImageNet's mean; "none" leaves them. Of the training images, once they are fitted:
            "mean_image" subtracts the mean of each position and channel, "mean" that of each channel; "standardize"
            subtracts the mean of each channel and divides by its deviation; "pca" and "zca" whiten.
        channels: 3, or 1 for the luminance alone, which the mode's numbers are then turned into one for.

    Returns:
        float32 [N, H, W, channels].

    Raises:
        ValueError: there is no such mode.
        UserError: the images are too large to be whitened.
    """
    if mode not in MODES:
        raise ValueError(f"unknown preprocessing {mode!r}: expected one of {', '.join(MODES)}")
    if channels == 1:
        x = Luminance(dtype="float32", name="preprocess_luminance")(x)
    if mode in FITTED:
        _check_size(x, mode)
        for layer in FITTED[mode]:
            x = layer(dtype="float32", name=f"preprocess_{layer.word}")(x)
        return x
    if mode == "none":
        return x
    scale, offset = _AFFINE[mode]
    if channels == 1:
        scale, offset = (float(np.dot(_luma(mode), np.broadcast_to(each, 3))) for each in (scale, offset))
    elif mode == "caffe":
        x = ReverseChannels(dtype="float32", name="preprocess_bgr")(x)
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="preprocess_rescale")(x)


def _luma(mode: str) -> tuple[float, ...]:
    """Return how much each channel counts in luminance, in the order of the mode's channels."""
    return LUMA[::-1] if mode == "caffe" else LUMA


def _check_size(x: KerasTensor, mode: str) -> None:
    """Raise UserError where images [N, H, W, C] are too large for a mode."""
    _, height, width, channels = x.shape
    numbers = height * width * channels
    if numbers > MOST_WHITENED and {PCAWhitening, ZCAWhitening}.intersection(FITTED[mode]):
        raise UserError(
            f"preprocessing {mode!r} at {height}x{width}: these images have {numbers} numbers, and the matrix of their "
            f"square is made of {MOST_WHITENED} at most: expected an image_size of "
            f"{math.isqrt(MOST_WHITENED // channels)} or less"
        )


def describe_normalization(mode: str) -> tuple[list[float], list[float]]:
    """Return the mean and the deviation, red, green, blue, that a mode takes of pixels in 0...1, as torch writes it.

    Of a mode that is fitted, what it takes before.
    """
    scale, offset = (np.broadcast_to(value, 3) for value in _AFFINE.get(mode, (1.0, 0.0)))
    order = slice(None, None, -1 if mode == "caffe" else 1)
    return (-offset / scale / 255)[order].tolist(), (1 / scale / 255)[order].tolist()
