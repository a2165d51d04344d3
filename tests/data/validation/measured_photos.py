"""Measured photos for the tests of schema and anomalies; no TensorFlow."""

import numpy as np
from tensorflow_metadata.proto.v0 import statistics_pb2

from kcnn.data.validation.statistics import Statistics
from kcnn.data.validation.statistics_proto import statistics_to_proto

CLASSES = ("cat", "dog", "emu")


def rows(count, seed=0, *, classes=CLASSES, shares=None, size=400.0, spread=0.5, bright=120.0, formats=(b"JPEG",)):
    """Return the measurements of photos: log-normal sizes, normal brightness."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(classes), count, p=shares)
    widths, heights = (np.exp(rng.normal(np.log(size), spread, count)).astype(int) + 1 for _ in range(2))
    brightness = rng.normal(bright, 30, count).clip(0, 255)
    sharpness = np.exp(rng.normal(6, 1, count))
    return [
        {
            "image/class/label": str(label).encode(),
            "image/class/text": classes[label].encode(),
            "image/encoded": int(width * height // 8) + 1,
            "image/filename": b"%d.jpg" % index,
            "image/format": formats[index % len(formats)],
            "image/height": int(height),
            "image/key/sha256": b"%064x" % index,
            "image/width": int(width),
            "image/aspect": round(width / height * 2**16),
            "image/brightness": round(light * 2**16),
            "image/bytes": int(width * height // 8) + 1,
            "image/channels": 3,
            "image/sharpness": round(sharp * 2**16),
        }
        for index, (label, width, height, light, sharp) in enumerate(
            zip(labels, widths, heights, brightness, sharpness, strict=True)
        )
    ]


def proto_of(measured, name="val") -> statistics_pb2.DatasetFeatureStatistics:
    """Return the statistics of measured photos."""
    return statistics_to_proto(Statistics.of(measured), name).datasets[0]
