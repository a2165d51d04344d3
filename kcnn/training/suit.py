"""What a run takes from its data: the size of its images, and which augmentations leave a class what it is."""

import dataclasses
import math

from kcnn.config import Phase
from kcnn.data.ingestion.summary import Summary
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.models.spec import ModelSpec


def image_size(spec: ModelSpec, side: float) -> int:
    """`side` pixels in steps of 32, from 64 on, between what the network takes and what it was designed for.

    A network that halves the image five times makes a single position of 32 pixels; beyond the designed size there is
    cost and little gain.
    """
    return max(spec.min_size, min(spec.input_size, max(64, 32 * math.ceil(side / 32))))


def preprocessing(spec: ModelSpec, summary: Summary, size: int | None = None) -> Preprocessing:
    """How the images are brought to the network, to `size` pixels where that is given.

    Of photos the centre is evaluated, as is usual; of images smaller than the network's input everything is needed.
    """
    size = size or image_size(spec, 2 * summary.median_side)
    return Preprocessing((size, size), crop_fraction=0.875 if size < summary.median_side else 1.0)


def suit(phase: Phase, summary: Summary) -> Phase:
    """`phase` without what would change the class of this data's images.

    Letters and digits are not mirrored. Small images (to 64 pixels) hold little but their object: at least 70% of
    their area stays, about what the usual padding by 4 of 32 pixels leaves of CIFAR's.
    """
    augmentations = tuple(name for name in phase.augmentations if name != "flip" or summary.mirror)
    crop_scale = phase.crop_scale
    if crop_scale and summary.median_side <= 64:
        crop_scale = (max(0.7, crop_scale[0]), crop_scale[1])
    return dataclasses.replace(phase, augmentations=augmentations, crop_scale=crop_scale)
