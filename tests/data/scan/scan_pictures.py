"""Pictures for the tests of the scan, and their facts."""

import collections
import dataclasses
import hashlib
import io

import numpy as np
from PIL import Image

from kcnn.data.examples import Example, encode_example
from kcnn.data.scan.scanned_images import scan_record


def picture(seed, size=(160, 120)):
    """Draw sharp-edged shapes in many colours, like no other seed's."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 220, (7, 9, 3), np.uint8)).resize(size, Image.Resampling.NEAREST)
    noise = rng.normal(0, 8, (size[1], size[0], 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def encode(image, format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def example(name, data, label="cat", format="JPEG"):
    digest = hashlib.sha256(data).hexdigest()
    return encode_example(Example(data, name, 0, label, format, 0, 0, digest))


def facts_of(files, split="train"):
    """Return the facts of files, name → (bytes, format)."""
    return [
        dataclasses.replace(scan_record(example(name, data, format=format)), split=split)
        for name, (data, format) in files.items()
    ]


def findings_of(result):
    """Return finding → filenames."""
    by_name = collections.defaultdict(set)
    for finding in result.findings:
        by_name[finding.finding].update(finding.filenames)
    return by_name


def turned(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image.rotate(90, expand=True), exif=exif)
