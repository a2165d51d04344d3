"""What a phase of a training is fitted to: images, crops with a teacher's answers, or the features of frozen layers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kcnn.config import Phase
from kcnn.data.input_pipeline.batches import training_batches, view_batches
from kcnn.models.spec import model_spec
from kcnn.nn.inference import inference_function
from kcnn.nn.layers import Crop, SamePadding
from kcnn.nn.pixel_layers import MeanImage
from kcnn.training.auxiliary import without_auxiliary
from kcnn.training.distillation import picture_crops
from kcnn.training.freezing import LabelledFeatures, compute_features, feature_batches, is_frozen, split_at_head
from kcnn.training.run import TrainingRun

_STEP, _LEAST_SIZE = 32, 64  # pixels
_SMALLER = 2 / 3  # of the epochs have smaller images; the others let the network know what evaluation shows it
_OF_ONE_SIZE = (keras.layers.Flatten, Crop, SamePadding, MeanImage)  # they know the size of what they are built for


def phase_data(
    run: TrainingRun, phase: Phase
) -> tuple[keras.Model, Callable[[], tf.data.Dataset], tf.data.Dataset | None]:
    """Return the model that a phase fits, what makes its training batches, and its validation batches.

    The model is the run's, on images, or its head, on features that are computed once. In the first of its epochs,
    training images may be smaller than those of evaluation. The batches begin with those that are next by the progress.
    """
    config, data, model, progress = run.config, run.data, run.model, run.progress

    def epochs() -> range:
        return range(progress.epoch, phase.planned_epochs)

    if run.answer is not None:

        def crop_batches() -> tf.data.Dataset:
            size = data.preprocessing.image_size[0]
            crops = picture_crops(config, data.training_shards, size, config.crops, epochs()).skip(progress.step)
            return crops.map(lambda images: (images, tf.zeros([tf.shape(images)[0], data.classes])))

        return model, crop_batches, run.validation
    if is_frozen(phase):
        backbone, head = split_at_head(without_auxiliary(model))
        trained_on, judged_on = frozen_features(run, backbone, phase, views=1)

        def batches_of_features() -> tf.data.Dataset:
            drawn = feature_batches(*trained_on, batch_size=config.batch_size, seed=config.seed, epochs=epochs())
            return drawn.skip(progress.step)

        return head, batches_of_features, judged_on and tf.data.Dataset.from_tensor_slices(judged_on).batch(256)
    size, least = data.preprocessing.image_size, model_spec(config.model).min_size
    smaller = training_size(size, phase.size_ratio, model, least)
    if smaller != size:
        # The same layers, for images of any size.
        model = keras.models.clone_model(model, keras.Input((None, None, 3)), clone_function=lambda layer: layer)
    grown = round(_SMALLER * phase.planned_epochs) if smaller != size else 0

    def batches_of_images() -> tf.data.Dataset:
        parts = [
            training_batches(
                data.training_shards,
                epochs=part,
                first_step=progress.step if part.start == progress.epoch else 0,
                objective=config.objective,
                **_drawing(run, phase, side),
            )
            for part, side in (
                (range(progress.epoch, grown), smaller),
                (range(max(progress.epoch, grown), phase.planned_epochs), size),
            )
            if part
        ]
        return functools.reduce(lambda one, other: one.concatenate(other), parts)

    return model, batches_of_images, run.validation


def training_size(size: tuple[int, int], ratio: float, model: keras.Model, least: int) -> tuple[int, int]:
    """Return the height and width of training images, in pixels, where those of evaluation have `size`.

    `least` is the smallest side that the network takes.
    """
    if ratio == 1 or any(isinstance(layer, _OF_ONE_SIZE) for layer in model.layers):
        return size
    height, width = (min(side, max(_LEAST_SIZE, least, _STEP * round(ratio * side / _STEP))) for side in size)
    return height, width


def _drawing(run: TrainingRun, phase: Phase, size: tuple[int, int]) -> dict[str, Any]:
    """Return the settings by which training images are drawn, as `training_batches` and `view_batches` take them.

    `size` is the height and width that they get, in pixels.
    """
    return {
        "num_classes": run.data.classes,
        "batch_size": run.config.batch_size,
        "preprocessing": dataclasses.replace(run.data.preprocessing, image_size=size),
        "augmentations": phase.augmentations,
        "crop_scale": phase.crop_scale,
        "seed": run.config.seed,
    }


def frozen_features(
    run: TrainingRun, backbone: keras.Model, phase: Phase, views: int
) -> tuple[LabelledFeatures, LabelledFeatures | None]:
    """Compute the features of the training images in some views, and of the validation images, if any."""
    data = run.data
    forward = inference_function(backbone)
    batches = run.in_order(data.train, data.train_count)
    if views > 1:
        random = view_batches(
            data.training_shards, views=range(1, views), **_drawing(run, phase, data.preprocessing.image_size)
        )
        batches = batches.concatenate(random)
    trained_on = compute_features(forward, batches, data.train_count, run.directory / "features-train.npy", views)
    if run.validation is None:
        return trained_on, None
    return trained_on, compute_features(forward, run.validation, data.val_count, run.directory / "features-val.npy")
