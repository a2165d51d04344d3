"""The checks of each image by itself: a check is one row of `CHECKS`."""

import dataclasses
import operator
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from kcnn.data.scan.scanned_images import ScannedImage

BLANK = 3.0  # standard deviation of the luminance (0 to 255), below which an image is blank
_RARE = 0.1  # greyscale is odd below this share of the images; so is colour
_DEVIATIONS = 5.0  # of 250 photos the softest is 4.0 below the median; blurred by 2 pixels of 500, they are 9 below
_LEAST_DEVIATION = 0.15  # a factor of 2.1 below the median at least, where images are all alike
_SOFT = 1.0  # a sharper image is not blurry, even among drawings: the softest of 250 photos has 1.3
_EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif"),
    "AVIF": (".avif",),
}
_FORMATS = {extension: name for name, extensions in _EXTENSIONS.items() for extension in extensions}


@dataclasses.dataclass(frozen=True)
class Norms:
    """The usual values of a data set.

    Attributes:
        modes: the usual modes, joined by " or ".
        sharpness: below it, an image is blurry.
    """

    modes: str
    sharpness: float

    @classmethod
    def of(cls, images: Sequence[ScannedImage]) -> "Norms":
        """Find the usual values among images."""
        count = Counter(one.mode for one in images)
        colours = count["greyscale"] + count["colour"]
        modes = [mode for mode in ("colour", "greyscale") if count[mode] > _RARE * colours]
        logs = np.log([one.sharpness for one in images if one.sharpness])
        if not logs.size:
            return cls(" or ".join(modes), 0.0)
        median = np.median(logs)
        deviation = max(_LEAST_DEVIATION, 1.4826 * float(np.median(np.abs(logs - median))))  # if normally distributed
        return cls(" or ".join(modes), round(min(_SOFT, float(np.exp(median - _DEVIATIONS * deviation))), 4))


_Value = float | str | None


@dataclasses.dataclass(frozen=True)
class ImageCheck:
    """A check of each image.

    Attributes:
        name: the finding's name.
        title: its name for people.
        value: returns what is measured; None where the check does not apply.
        limit: returns what the value is compared with.
        bad: returns from value and limit whether the image has the finding.
        reason: why this matters, and why at this limit.
        warned: whether it is told before training.
        usual: whether it belongs to a data set's nature where most images show it; then these are no findings.
    """

    name: str
    title: str
    value: Callable[[ScannedImage], _Value]
    limit: Callable[[ScannedImage, Norms], _Value]
    bad: Callable[[Any, Any], bool]
    reason: str
    warned: bool = False
    usual: bool = True


def _unless_blank(value: Callable[[ScannedImage], _Value]) -> Callable[[ScannedImage], _Value]:
    return lambda one: None if one.deviation < BLANK else value(one)


def _constant(limit: _Value) -> Callable[[ScannedImage, Norms], _Value]:
    return lambda one, norms: limit


CHECKS = (
    ImageCheck(
        "damaged",
        "Damaged",
        lambda one: one.damage,
        _constant(""),
        operator.ne,
        "TensorFlow reads the file, Pillow does not: part of the image may be missing.",
        warned=True,
        usual=False,
    ),
    ImageCheck(
        "wrong_extension",
        "Wrong extension",
        lambda one: one.format,
        lambda one, norms: _FORMATS.get(PurePosixPath(one.filename).suffix.lower(), one.format),
        operator.ne,
        "The content has another format than the name says. kcnn goes by the content; other programs may refuse it.",
    ),
    ImageCheck(
        "animated",
        "Animated",
        lambda one: one.frames,
        _constant(1),
        operator.gt,
        "Only the first frame is used, which is often a title or empty.",
    ),
    ImageCheck(
        "odd_mode",
        "Odd mode",
        lambda one: one.mode or None,
        lambda one, norms: norms.modes,
        lambda value, limit: value not in limit,
        "Everything becomes 8-bit RGB: CMYK changes colours, 16 bits lose the lower 8. Greyscale among colour, or the "
        f"reverse, in less than {_RARE:.0%} of the images, can be learned instead of the content.",
    ),
    ImageCheck(
        "transparent",
        "Transparent, shown on white",
        lambda one: one.transparent,
        _constant(0.0),
        operator.gt,
        "Share of the pixels that are not opaque. They are put on white, in training as in serving: what is white "
        "itself cannot be seen there.",
        warned=True,
    ),
    ImageCheck(
        "narrow_range",
        "Narrow range of 16 bits",
        lambda one: one.bits or None,
        _constant(13),
        operator.lt,
        "Bits that the range of a 16-bit picture takes. The upper 8 of the 16 are kept: of a range of 12 bits 4 are "
        "left, or 16 shades. Stretch it to all 16 bits, or to 8.",
        warned=True,
        usual=False,
    ),
    ImageCheck(
        "exif_rotated",
        "Turned by EXIF",
        lambda one: one.orientation,
        _constant(1),
        operator.ne,
        "The pixels are stored turned, and a tag says how to turn them back. kcnn does so; other programs may not.",
    ),
    ImageCheck(
        "extreme_aspect",
        "Extreme aspect",
        lambda one: round(max(one.width / one.height, one.height / one.width), 2) if one.height else None,
        _constant(3.0),
        operator.gt,
        "The central square shows at most a third of an image that is three times as long as wide.",
    ),
    ImageCheck(
        "tiny",
        "Tiny",
        lambda one: min(one.width, one.height) or None,
        _constant(32),
        operator.lt,
        "Pixels of the shorter side: most networks see an enlarged blur of fewer than 32.",
    ),
    ImageCheck(
        "blank",
        "Blank",
        lambda one: None if one.damage else one.deviation,
        _constant(BLANK),
        operator.lt,
        "Standard deviation of the luminance (0 to 255); noise and compression alone make about 1% of the range.",
        warned=True,
        usual=False,
    ),
    ImageCheck(
        "dark",
        "Dark",
        _unless_blank(lambda one: one.high),
        _constant(64),
        operator.lt,
        "99% of the pixels are darker than the value (0 to 255): nearly all are in the lowest quarter of the range. "
        "A night scene with lights is not dark in this sense.",
        warned=True,
        usual=False,
    ),
    ImageCheck(
        "bright",
        "Bright",
        _unless_blank(lambda one: one.low),
        _constant(224),
        operator.gt,
        "99% of the pixels are brighter than the value (0 to 255): nearly all are in the highest eighth of the range. "
        "An object on white paper is not bright in this sense.",
    ),
    ImageCheck(
        "blurry",
        "Blurry",
        _unless_blank(lambda one: one.sharpness),
        lambda one, norms: norms.sharpness,
        operator.lt,
        f"Energy of the Laplacian over that of the gradient, more than {_DEVIATIONS:.0f} robust standard deviations "
        "(median and MAD of the logarithms) below the data set's own median, so that a soft image among soft images "
        "is not blurry.",
    ),
)
