"""RandAugment."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image
from kcnn.data.input_pipeline.augmentations.keras_cv_layers.draws import shared_layer


@per_image("randaugment")
def rand_augment(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Apply RandAugment: two operations of magnitude 9, the ResNet-50 setting of Cubuk et al. 2019, table 4."""
    from kcnn.data.input_pipeline.augmentations.keras_cv_layers.rand_augment import RandAugment

    return shared_layer(RandAugment).augment(image, seed)
