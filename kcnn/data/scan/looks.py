"""The facts of one image that a scan judges by, under 2 kB each."""

import dataclasses
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from kcnn.data import pictures
from kcnn.data.records import Example
from kcnn.data.scan import copies
from kcnn.data.validation.statistics import luminance

_SHARPNESS_SIDE = 256  # sharpness is that of the image shrunk to fit this square; half of it misses slight blurs


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """The facts of one image.

    Attributes:
        filename: as in the examples, unique in the data set.
        label: the class name.
        digest: SHA-256 of the file.
        format: "JPEG", "PNG", ..., from the content.
        damage: why Pillow cannot read what TensorFlow could; then all below is empty.
        width: of the stored pixels.
        height: likewise.
        mode: "colour", "greyscale", "transparent" (some pixel is), "CMYK" or "16-bit".
        frames: of an animation; 1 for all else.
        orientation: EXIF's, 1 to 8.
        deviation: standard deviation of the luminance, the image shrunk to fit 256x256; 0 to 255.
        low: 1st percentile of the same.
        high: 99th percentile of the same.
        sharpness: mean square of its Laplacian over that of its gradient, whatever the contrast: 5 for noise, about 3
            for a photo, 0.3 for one blurred by 3 pixels of 500; None where there are no edges.
        thumbnail: 16x16 bytes of luminance, upright.
        split: "train", "val" or "test".
    """

    filename: str
    label: str
    digest: bytes
    format: str
    damage: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    frames: int = 1
    orientation: int = 1
    deviation: float = 0.0
    low: int = 0
    high: int = 0
    sharpness: float | None = None
    thumbnail: bytes = b""
    split: str = ""


def look(serialized: bytes) -> Look:
    """The facts of the image in a tf.Example, but for its split."""
    features = Example.FromString(serialized).features.feature

    def text(name: str) -> str:
        return b"".join(features[name].bytes_list.value[:1]).decode("utf-8", "surrogateescape")

    encoded = b"".join(features["image/encoded"].bytes_list.value[:1])
    digest = bytes.fromhex(text("image/key/sha256"))
    facts = Look(text("image/filename"), text("image/class/text"), digest, text("image/format"))
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return dataclasses.replace(facts, **_pixels(image, encoded))
    except pictures.DAMAGE as error:
        return dataclasses.replace(facts, damage=str(error).partition("<")[0].strip() or type(error).__name__)


def _pixels(image: Image.Image, encoded: bytes) -> dict[str, Any]:
    width, height = image.size
    frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP") else 1
    mode = _mode(image, encoded)
    orientation = pictures.orientation(image)
    grey = pictures.upright(luminance(image), orientation)
    thumbnail = grey.resize((copies.SIDE, copies.SIDE), Image.Resampling.BILINEAR)
    grey.thumbnail((_SHARPNESS_SIDE, _SHARPNESS_SIDE), Image.Resampling.BOX)
    counts = np.array(grey.histogram())
    values, total = np.arange(256), counts.sum()
    mean = counts @ values / total
    low, high = np.searchsorted(np.cumsum(counts), [0.01 * total, 0.99 * total])
    return {
        "width": width,
        "height": height,
        "mode": mode,
        "frames": frames,
        "orientation": orientation,
        "deviation": round(float(np.sqrt(counts @ (values - mean) ** 2 / total)), 3),
        "low": int(low),
        "high": int(high),
        "sharpness": _sharpness(np.asarray(grey).astype(np.int32)),
        "thumbnail": thumbnail.tobytes(),
    }


def _mode(image: Image.Image, encoded: bytes) -> str:
    if encoded.startswith(b"\x89PNG") and encoded[24] == 16:  # the header's bit depth: Pillow hides that of colour
        return "16-bit"
    if image.mode == "CMYK":
        return "CMYK"
    if image.has_transparency_data and np.asarray(image.convert("RGBA").getchannel("A")).min() < 255:
        return "transparent"
    return "greyscale" if image.mode in ("1", "L", "LA") else "colour"


def _sharpness(pixels: np.ndarray) -> float | None:
    if min(pixels.shape) < 3:
        return None
    down, right = np.diff(pixels, axis=0), np.diff(pixels, axis=1)
    edges = (down**2).mean() + (right**2).mean()
    laplacian = np.diff(down, axis=0)[:, 1:-1] + np.diff(right, axis=1)[1:-1]
    return round(float((laplacian**2).mean() / edges), 4) if edges else None


def collect(records: Iterable[bytes]) -> list[Look]:
    """The facts of serialized tf.Examples."""
    return list(map(look, records))
