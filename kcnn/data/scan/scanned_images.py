"""The facts of each image by which a scan judges, under 2 kB each."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from kcnn.data import pictures
from kcnn.data.records import TFExample
from kcnn.data.scan import copies

_SHARPNESS_SIDE = 256  # sharpness is that of the image shrunk to fit this square; half of it misses slight blurs


@dataclasses.dataclass(frozen=True, slots=True)
class ScannedImage:
    """The facts of one image.

    Attributes:
        filename: the name in the examples, unique in the data set.
        label: the class name.
        digest: SHA-256 of the file.
        format: "JPEG", "PNG", "GIF", "BMP" or "WEBP", from the content.
        damage: why Pillow cannot read what TensorFlow could; then all below is empty.
        width: columns of the stored pixels.
        height: rows of the stored pixels.
        mode: "colour", "greyscale", "CMYK" or "16-bit".
        bits: of a 16-bit image, the bits that the range of its samples takes, 8 or more; 0 for other images.
        transparent: share of the pixels that are not opaque, 0 to 1.
        frames: frames of an animation; 1 for anything else.
        orientation: the EXIF orientation, 1 to 8.
        deviation: standard deviation of the luminance, 0 to 255; this and the next three of the image shrunk to fit
            256x256.
        low: 1st percentile of the luminance, 0 to 255.
        high: 99th percentile of the luminance, 0 to 255.
        sharpness: mean square of the Laplacian over that of the gradient, whatever the contrast: 5 for noise, about 3
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
    bits: int = 0
    transparent: float = 0.0
    frames: int = 1
    orientation: int = 1
    deviation: float = 0.0
    low: int = 0
    high: int = 0
    sharpness: float | None = None
    thumbnail: bytes = b""
    split: str = ""


def scan_records(records: Iterable[bytes]) -> list[ScannedImage]:
    """Return the facts of the images in serialized tf.Examples, without their splits."""
    return list(map(scan_record, records))


def scan_record(serialized: bytes) -> ScannedImage:
    """Return the facts of the image in a serialized tf.Example, without its split."""
    features = TFExample.FromString(serialized).features.feature

    def text(name: str) -> str:
        return b"".join(features[name].bytes_list.value[:1]).decode("utf-8", "surrogateescape")

    encoded = b"".join(features["image/encoded"].bytes_list.value[:1])
    digest = bytes.fromhex(text("image/key/sha256"))
    facts = ScannedImage(text("image/filename"), text("image/class/text"), digest, text("image/format"))
    try:
        with pictures.open_picture(encoded) as image:
            stored, grey = _read_stored(image, encoded), pictures.decode_luminance(image)
    except pictures.DamagedPictureError as error:
        return dataclasses.replace(facts, damage=str(error))
    return dataclasses.replace(
        facts, **stored, **_measure_luminance(pictures.turn_upright(grey, stored["orientation"]))
    )


def _read_stored(image: Image.Image, encoded: bytes) -> dict[str, Any]:
    """Return how an opened image is stored."""
    frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP") else 1
    mode = _mode(image, encoded)
    return {
        "width": image.width,
        "height": image.height,
        "mode": mode,
        "bits": _bits(image) if mode == "16-bit" else 0,
        "transparent": round(pictures.transparent_share(image), 4),
        "frames": frames,
        "orientation": pictures.read_orientation(image),
    }


def _measure_luminance(grey: Image.Image) -> dict[str, Any]:
    """Return the facts that follow from an upright image's luminance."""
    thumbnail = grey.resize((copies.SIDE, copies.SIDE), Image.Resampling.BILINEAR)
    grey.thumbnail((_SHARPNESS_SIDE, _SHARPNESS_SIDE), Image.Resampling.BOX)
    counts = np.array(grey.histogram())
    values, total = np.arange(256), counts.sum()
    mean = counts @ values / total
    low, high = np.searchsorted(np.cumsum(counts), [0.01 * total, 0.99 * total])
    return {
        "deviation": round(float(np.sqrt(counts @ (values - mean) ** 2 / total)), 3),
        "low": int(low),
        "high": int(high),
        "sharpness": _sharpness(np.asarray(grey).astype(np.int32)),
        "thumbnail": thumbnail.tobytes(),
    }


def _mode(image: Image.Image, encoded: bytes) -> str:
    if encoded.startswith(b"\x89PNG") and encoded[24] == 16:  # the header's bit depth, which Pillow hides for colour
        return "16-bit"
    if image.mode == "CMYK":
        return "CMYK"
    return "greyscale" if image.mode in ("1", "L", "LA") else "colour"


def _bits(image: Image.Image) -> int:
    """Return the bits that the range of a 16-bit image's samples takes, 8 or more; Pillow has high bytes of colour."""
    samples = np.asarray(image)
    if samples.ndim == 2:
        return max(8, (int(samples.max()) - int(samples.min())).bit_length())
    colours = samples[..., : 1 if samples.shape[-1] == 2 else 3]
    return 8 + (int(colours.max()) - int(colours.min())).bit_length()


def _sharpness(pixels: np.ndarray) -> float | None:
    if min(pixels.shape) < 3:
        return None
    down, right = np.diff(pixels, axis=0), np.diff(pixels, axis=1)
    edges = (down**2).mean() + (right**2).mean()
    laplacian = np.diff(down, axis=0)[:, 1:-1] + np.diff(right, axis=1)[1:-1]
    return round(float((laplacian**2).mean() / edges), 4) if edges else None
