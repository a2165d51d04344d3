"""What a phase of a training is fitted to: images, crops with a teacher's answers, or the features of frozen layers."""

import keras
import tensorflow as tf

from kcnn.config import Phase
from kcnn.data.input_pipeline.batches import TrainingShards, training_batches, view_batches
from kcnn.nn.inference import inference_function
from kcnn.training.auxiliary import without_auxiliary
from kcnn.training.distillation import picture_crops
from kcnn.training.freezing import LabelledFeatures, compute_features, feature_batches, is_frozen, split_at_head
from kcnn.training.run import TrainingRun


def phase_data(run: TrainingRun, phase: Phase) -> tuple[keras.Model, tf.data.Dataset, tf.data.Dataset | None]:
    """Return the model that a phase fits, its training batches and its validation batches.

    The model is the run's, on images, or its head, on features that are computed once.
    """
    config, data, model = run.config, run.data, run.model
    epochs = range(run.progress.epoch, phase.planned_epochs)
    shards = TrainingShards(data.train, data.train_count, data.mean_bytes)
    if run.answer is not None:
        size = data.preprocessing.image_size[0]
        crops = picture_crops(config, shards, size, config.crops, epochs)
        return model, crops.map(lambda images: (images, tf.zeros([tf.shape(images)[0], data.classes]))), run.validation
    if is_frozen(phase):
        backbone, head = split_at_head(without_auxiliary(model))
        trained_on, judged_on = frozen_features(run, backbone, phase, views=1)
        batches = feature_batches(*trained_on, batch_size=config.batch_size, seed=config.seed, epochs=epochs)
        return head, batches, judged_on and tf.data.Dataset.from_tensor_slices(judged_on).batch(256)
    batches = training_batches(
        shards,
        num_classes=data.classes,
        batch_size=config.batch_size,
        preprocessing=data.preprocessing,
        augmentations=phase.augmentations,
        crop_scale=phase.crop_scale,
        seed=config.seed,
        epochs=epochs,
        objective=config.objective,
    )
    return model, batches, run.validation


def frozen_features(
    run: TrainingRun, backbone: keras.Model, phase: Phase, views: int
) -> tuple[LabelledFeatures, LabelledFeatures | None]:
    """Compute the features of the training images in some views, and of the validation images, if any."""
    data, config = run.data, run.config
    forward = inference_function(backbone)
    batches = run.in_order(data.train, data.train_count)
    if views > 1:
        random = view_batches(
            TrainingShards(data.train, data.train_count, data.mean_bytes),
            num_classes=data.classes,
            batch_size=config.batch_size,
            preprocessing=data.preprocessing,
            augmentations=phase.augmentations,
            crop_scale=phase.crop_scale,
            seed=config.seed,
            views=range(1, views),
        )
        batches = batches.concatenate(random)
    trained_on = compute_features(forward, batches, data.train_count, run.directory / "features-train.npy", views)
    if run.validation is None:
        return trained_on, None
    return trained_on, compute_features(forward, run.validation, data.val_count, run.directory / "features-val.npy")
