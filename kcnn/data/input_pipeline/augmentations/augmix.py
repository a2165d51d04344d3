"""AugMix."""

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image
from kcnn.data.input_pipeline.augmentations.kernels.operations import MIXED, apply_one

_DEEPEST = 3


@per_image("augmix", severity=(1.0, 10.0), width=(1, 10), alpha=(0.01, 100.0))
def augmix(
    image: tf.Tensor, seed: tf.Tensor, *, severity: float = 3.0, width: int = 3, alpha: float = 1.0
) -> tf.Tensor:
    """Mix an image with `width` chains of one to three operations on it (Hendrycks et al., "AugMix", ICLR 2020).

    The chains weigh by a Dirichlet distribution, their mixture against the image by a Beta distribution, both of
    `alpha`. The paper's loss of consistency, which compares three views of an image, is no augmentation.
    """
    of_chains, of_weights, of_mixture = tf.unstack(tf.random.split(seed, 3))
    draws = tf.random.stateless_uniform([width, _DEEPEST, 3], of_chains)
    depths = tf.random.stateless_uniform([width], tf.random.fold_in(of_chains, 1), 1, _DEEPEST + 1, tf.int32)
    weights = tf.random.stateless_gamma([width], of_weights, alpha)
    weights /= tf.reduce_sum(weights)
    pair = tf.random.stateless_gamma([2], of_mixture, alpha)
    share = pair[0] / tf.reduce_sum(pair)
    mixed = (1 - share) * image
    for chain in range(width):
        augmented = image
        for step in range(_DEEPEST):
            choice, level, turn = tf.unstack(draws[chain, step])

            def go_on(image: tf.Tensor = augmented, draw: tuple[tf.Tensor, ...] = (choice, level, turn)) -> tf.Tensor:
                choice, level, turn = draw
                level = (0.1 + level * (severity - 0.1)) / 10
                return apply_one(MIXED, tf.cast(choice * len(MIXED), tf.int32), image, level, turn)

            augmented = tf.cond(step < depths[chain], go_on, lambda image=augmented: image)
        mixed += share * weights[chain] * augmented
    return tf.clip_by_value(mixed, 0.0, 255.0)
