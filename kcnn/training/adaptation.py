"""What a run takes from its data: size of images, epochs, batches, and augmentations that leave a class what it is."""

import dataclasses
import math

from kcnn.config import Config, Phase, override
from kcnn.data.ingestion.summary import Summary
from kcnn.data.input_pipeline.augmentations import read_augmentation
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.models.spec import ModelSpec, model_spec

LEAST_SIZE = 64  # pixels
# The same for weights that learned from photos. CIFAR-10 (32 pixels), 50 images a class, from the starter: 62.5% at 96
# pixels, 66.2% at 128. Digits of 8 pixels: 99% at 96; at 128, training was not stable.
PHOTO_SIZES = (96, 128)
_WORK = 1.2e12  # multiply-adds of the forward passes: 3000 images through EfficientNet-Lite0, 90 seconds on two cores
# As which an image counts at least: MobileNetV2 trains on images of 64 pixels hardly faster than on those of 96.
_LEAST_WORK = 1e8
_EPOCHS = (10, 40)
_LEAST_BATCH, _STEPS = 8, 20


def choose_image_size(spec: ModelSpec, side: float) -> int:
    """Return the input size in pixels for images whose side is `side` pixels.

    It is `side` in steps of 32, from `LEAST_SIZE` on, between what the network takes and what it was designed for. A
    network that halves the image five times makes a single position of 32 pixels; beyond the designed size there is
    cost and little gain.
    """
    return max(spec.min_size, min(spec.input_size, max(LEAST_SIZE, 32 * math.ceil(side / 32))))


def choose_preprocessing(
    spec: ModelSpec, summary: Summary, size: int | None = None, weights: str | None = None
) -> Preprocessing:
    """Return the deterministic transform that brings the images to the network.

    The centre of photos is evaluated, as is usual; images smaller than the network's input are needed whole.

    Args:
        spec: the architecture.
        summary: of the data.
        size: height and width in pixels; None chooses them by the data.
        weights: what the network starts from, as `load_weights` takes it. Those that learned from photos know larger
            shapes: for them images become up to four times as large, where others become twice as large.
    """
    side: float = 2 * summary.median_side
    if weights in ("imagenet", "starter"):
        side = max(side, min(max(2 * side, PHOTO_SIZES[0]), PHOTO_SIZES[1]))
    size = size or choose_image_size(spec, side)
    return Preprocessing((size, size), crop_fraction=0.875 if size < summary.median_side else 1.0)


def adapt_phase(phase: Phase, summary: Summary) -> Phase:
    """Return `phase` without the augmentations that would change the class of this data's images.

    Letters and digits are not mirrored. Small images (to 64 pixels) hold little but their object: at least 70% of
    their area stays, about what the usual padding by 4 of 32 pixels leaves of CIFAR's. Such crops show objects hardly
    larger than evaluation does, so that these images are trained on in its size from the first epoch on: digits fell
    from 98 to 85% in 64 of 96 pixels.
    """
    augmentations = tuple(text for text in phase.augmentations if summary.mirror or not read_augmentation(text).mirrors)
    crop_scale, size_ratio = phase.crop_scale, phase.size_ratio
    if summary.median_side <= 64:
        crop_scale, size_ratio = crop_scale and (max(0.7, crop_scale[0]), crop_scale[1]), 1.0
    return dataclasses.replace(phase, augmentations=augmentations, crop_scale=crop_scale, size_ratio=size_ratio)


def choose_epochs(spec: ModelSpec, count: int, size: tuple[int, int]) -> int:
    """Return the epochs of fine-tuning on `count` images of `size` pixels, height and width.

    BiT-HyperRule (Kolesnikov et al., ECCV 2020, section 3.3) lets the number of images choose the steps: 500 of 512
    images below 20,000 images, that is many epochs of few images and few of many. So it is here, scaled to two cores:
    all epochs together take `_WORK` multiply-adds, but there are 10 to 40.
    """
    work = max(spec.macs * size[0] * size[1] / spec.input_size**2, _LEAST_WORK) * count
    return round(min(max(_WORK / work, _EPOCHS[0]), _EPOCHS[1]))


def choose_batch_size(count: int, most: int) -> int:
    """Return the images of a step of fine-tuning on `count` images: a power of two, from 8 to `most`.

    An epoch has 20 steps at least, as far as that goes: the work is that of the images, but few steps are too few to
    learn in. Batch norm is frozen, so that small batches do it no harm.
    """
    return min(most, max(_LEAST_BATCH, 2 ** int(math.log2(max(count / _STEPS, 1)))))


def adapt_config(config: Config, summary: Summary, size: tuple[int, int]) -> Config:
    """Return `config` with all its phases adapted to the data, for images of `size` pixels, height and width.

    Where the epochs follow the number of images, so does the batch, and the learning rate with it, unless they are
    given.
    """
    count = summary.total("train")
    if config.phases[-1].epochs is None and "batch_size" not in config.overrides:
        chosen = choose_batch_size(count, config.batch_size)
        config = dataclasses.replace(override(config, batch_size=chosen), overrides=config.overrides)
    epochs = choose_epochs(model_spec(config.model), count, size)
    phases = (adapt_phase(phase, summary) for phase in config.phases)
    return dataclasses.replace(
        config, phases=tuple(dataclasses.replace(phase, epochs=phase.epochs or epochs) for phase in phases)
    )
