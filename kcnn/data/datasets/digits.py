"""The embedded default: 1,797 handwritten digits, 8x8 pixels, 43 writers.

The test part of "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak, UCI, 1998, https://doi.org/10.24432/C50P49),
as scikit-learn carries it. Intensities 0-16 become PNG bytes of 0-255, so that digits are decoded as photos are.
"""

import functools
import io
from collections.abc import Iterator

import numpy as np
import sklearn.datasets
from PIL import Image

from kcnn.data.datasets import DATASETS, Dataset, ImageSource


def _png(intensities: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.round(intensities * (255 / 16)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@DATASETS.register("digits")
def load() -> Dataset:
    """Open the 1,797 digits: classes "0" to "9", no given split."""
    digits = sklearn.datasets.load_digits()

    def sources() -> Iterator[ImageSource]:
        for index, (image, target) in enumerate(zip(digits.images, digits.target, strict=True)):
            yield ImageSource(f"digits/{target}/{index:04d}.png", str(target), None, functools.partial(_png, image))

    return Dataset(
        name="digits",
        labels=tuple(map(str, range(10))),
        sources=sources,
        count=len(digits.images),
        fingerprint="digits: UCI optdigits test part, PNG of round(intensity * 255 / 16)",
        mirror=False,
    )
