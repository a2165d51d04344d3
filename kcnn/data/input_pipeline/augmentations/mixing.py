"""CutMix and MixUp: the images of a batch are mixed with one another, and their labels too."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_batch
from kcnn.data.input_pipeline.augmentations.keras_cv_layers.draws import shared_layer


@per_batch("cutmix")
def cutmix(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a rectangle of one image into another; labels weigh by area (Yun et al. 2019, alpha 1)."""
    from kcnn.data.input_pipeline.augmentations.keras_cv_layers.mixing import CutMix

    return shared_layer(CutMix).augment(images, labels, seed)


@per_batch("mixup")
def mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend pairs of images and their labels (Zhang et al. 2017, alpha 0.2)."""
    from kcnn.data.input_pipeline.augmentations.keras_cv_layers.mixing import MixUp

    return shared_layer(MixUp).augment(images, labels, seed)


@per_batch("cutmix_mixup")
def cutmix_or_mixup(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Apply one of the two to each batch, with equal chances, as DeiT trains (Touvron et al. 2020, section 6)."""
    choice, own = tf.unstack(tf.random.split(seed, 2))
    return tf.cond(
        tf.random.stateless_uniform([], choice) < 0.5,
        lambda: cutmix(images, labels, own),
        lambda: mixup(images, labels, own),
    )
