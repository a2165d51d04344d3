"""Measures of an example: the features of its tf.Example, and others that follow from its image."""

import dataclasses
from collections.abc import Collection

import numpy as np
from PIL import Image
from tensorflow_metadata.proto.v0 import statistics_pb2

from kcnn.data import pictures
from kcnn.data.records import COLUMN, TFExample
from kcnn.data.validation.sketches import Distinct, Numbers, Strings, Values

_SMALL_SIDE = 128  # brightness and sharpness are those of the image shrunk to fit this square
_FRACTION = 2**-16

_Type = statistics_pb2.FeatureNameStatistics
_Kind = type[Numbers] | type[Values] | type[Distinct] | type[Strings]


@dataclasses.dataclass(frozen=True)
class Feature:
    """A feature that is measured.

    Attributes:
        name: the name in the tf.Example.
        type: the type in the statistics proto, a FeatureNameStatistics.Type.
        kind: the sketch to which its values are reduced.
        unit: the value of 1 in the integers that hold its numbers.
        derived: how it follows from the image; "" for a feature that the tf.Example holds itself.
    """

    name: str
    type: int
    kind: _Kind
    unit: float = 1.0
    derived: str = ""


FEATURES = (
    Feature("image/class/label", _Type.INT, Values),
    Feature("image/class/text", _Type.STRING, Values),
    Feature("image/encoded", _Type.BYTES, Numbers),  # the numbers of bytes
    Feature("image/filename", _Type.STRING, Distinct),
    Feature("image/format", _Type.STRING, Values),
    Feature("image/height", _Type.INT, Numbers),
    Feature("image/key/sha256", _Type.STRING, Distinct),
    Feature("image/width", _Type.INT, Numbers),
    Feature("image/aspect", _Type.FLOAT, Numbers, _FRACTION, "width / height of the stored pixels"),
    Feature("image/brightness", _Type.FLOAT, Numbers, _FRACTION, "mean luminance (ITU-R 601), 0 to 255"),
    Feature("image/bytes", _Type.INT, Numbers, derived="length of the file"),
    Feature("image/channels", _Type.INT, Numbers, derived="samples of a stored pixel; 3 for a palette"),
    Feature(
        "image/sharpness",
        _Type.FLOAT,
        Numbers,
        _FRACTION,
        f"variance of the Laplacian of the luminance, the image shrunk to fit {_SMALL_SIDE}x{_SMALL_SIDE}",
    ),
)

Measurements = dict[str, int | bytes]  # feature name → its value, as bytes or as an integer in the feature's unit


def features_of(names: Collection[str]) -> list[Feature]:
    """Return `FEATURES`, and a feature for each label column among the names."""
    return [*FEATURES, *(Feature(name, _Type.STRING, Strings) for name in sorted(names) if name.startswith(COLUMN))]


def measure_example(serialized: bytes) -> Measurements:
    """Measure a serialized tf.Example; features that it lacks are missing in the result."""
    example = TFExample.FromString(serialized).features.feature
    found: Measurements = {}
    for feature in FEATURES:
        if not feature.derived and feature.name in example:
            held = example[feature.name]
            values = held.bytes_list.value or held.int64_list.value
            if values:
                found[feature.name] = values[0]
    found |= {name: held.bytes_list.value[0] for name, held in example.items() if name.startswith(COLUMN)}
    encoded = found.pop("image/encoded", b"")
    if "image/class/label" in found:
        found["image/class/label"] = str(found["image/class/label"]).encode()
    if isinstance(encoded, bytes) and encoded:
        found |= {"image/encoded": len(encoded), "image/bytes": len(encoded), **_measure_pixels(encoded)}
    return found


def _measure_pixels(encoded: bytes) -> Measurements:
    """Measure the pixels of a file; return nothing where Pillow cannot read what TensorFlow could."""
    try:
        with pictures.open_picture(encoded) as image:
            width, height = image.size
            channels = 3 if image.mode == "P" else len(image.getbands())
            grey = pictures.decode_luminance(image)
    except pictures.DamagedPictureError:
        return {}
    grey.thumbnail((_SMALL_SIDE, _SMALL_SIDE), Image.Resampling.BOX)
    pixels = np.asarray(grey).astype(np.int32)
    found: Measurements = {
        "image/channels": channels,
        "image/aspect": round(width / height / _FRACTION),
        "image/brightness": round(int(pixels.sum()) / pixels.size / _FRACTION),
    }
    if min(pixels.shape) >= 3:
        laplacian = pixels[:-2, 1:-1] + pixels[2:, 1:-1] + pixels[1:-1, :-2] + pixels[1:-1, 2:] - 4 * pixels[1:-1, 1:-1]
        size, total, squares = laplacian.size, int(laplacian.sum()), int((laplacian**2).sum(dtype=np.int64))
        found["image/sharpness"] = round((size * squares - total**2) / size**2 / _FRACTION)
    return found
