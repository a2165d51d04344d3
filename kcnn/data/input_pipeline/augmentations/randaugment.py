"""RandAugment."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image
from kcnn.data.input_pipeline.augmentations.keras_cv_layers.draws import shared_layer
from kcnn.data.input_pipeline.augmentations.kernels.operations import PAPER, apply_one


@per_image("randaugment", n=(1, 10), m=(0.0, 30.0), ops=("paper", "keras_cv"))
def rand_augment(image: tf.Tensor, seed: tf.Tensor, *, n: int = 2, m: float = 9.0, ops: str = "paper") -> tf.Tensor:
    """Apply RandAugment: `n` operations of magnitude `m`, by default those for ResNet-50 of Cubuk et al. 2019, table 4.

    With "paper", the operations are the paper's 14. Each strength is drawn up to the magnitude, the paper's "random
    magnitude" (appendix A.1.1), which it finds as good as a constant one. Beyond 10, strengths go on as they rise.

    With "keras_cv", they are keras-cv's ten, as it applies them: `keras_cv.layers.RandAugment` of magnitude `m / 10`,
    up to 10. It has no rotation, posterization or sharpness; 9 is three times the paper's shear and twice its
    translation, brightness up to white or black, and nearly every pixel solarized.
    """
    if ops == "keras_cv":
        from kcnn.data.input_pipeline.augmentations.keras_cv_layers.rand_augment import RandAugment

        return shared_layer(RandAugment, n, min(m / 10, 1.0)).augment(image, seed)
    draws = tf.random.stateless_uniform([n, 3], seed)
    for choice, level, turn in map(tf.unstack, tf.unstack(draws)):
        image = apply_one(PAPER, tf.cast(choice * len(PAPER), tf.int32), image, level * (m / 10), turn)
    return image
