"""AutoAugment: the policies that were found for ImageNet, CIFAR-10 and SVHN."""

import numpy as np
import tensorflow as tf

from kcnn.data.input_pipeline.augmentations import per_image
from kcnn.data.input_pipeline.augmentations.kernels.operations import WITH_INVERSION, apply_one

# Cubuk et al., "AutoAugment", CVPR 2019, tables 9, 7 and 8: 25 sub-policies each, a line for each: two operations, each
# with its probability in tenths and its magnitude, 0 to 9.
POLICIES = {
    "imagenet": """
        posterize 4 8, rotate 6 9
        solarize 6 5, autocontrast 6 5
        equalize 8 8, equalize 6 3
        posterize 6 7, posterize 6 6
        equalize 4 7, solarize 2 4
        equalize 4 4, rotate 8 8
        solarize 6 3, equalize 6 7
        posterize 8 5, equalize 10 2
        rotate 2 3, solarize 6 8
        equalize 6 8, posterize 4 6
        rotate 8 8, color 4 0
        rotate 4 9, equalize 6 2
        equalize 0 7, equalize 8 8
        invert 6 4, equalize 10 8
        color 6 4, contrast 10 8
        rotate 8 8, color 10 2
        color 8 8, solarize 8 7
        sharpness 4 7, invert 6 8
        shear_x 6 5, equalize 10 9
        color 4 0, equalize 6 3
        equalize 4 7, solarize 2 4
        solarize 6 5, autocontrast 6 5
        invert 6 4, equalize 10 8
        color 6 4, contrast 10 8
        equalize 8 8, equalize 6 3
    """,
    "cifar10": """
        invert 1 7, contrast 2 6
        rotate 7 2, translate_x 3 9
        sharpness 8 1, sharpness 9 3
        shear_y 5 8, translate_y 7 9
        autocontrast 5 8, equalize 9 2
        shear_y 2 7, posterize 3 7
        color 4 3, brightness 6 7
        sharpness 3 9, brightness 7 9
        equalize 6 5, equalize 5 1
        contrast 6 7, sharpness 6 5
        color 7 7, translate_x 5 8
        equalize 3 7, autocontrast 4 8
        translate_y 4 3, sharpness 2 6
        brightness 9 6, color 2 8
        solarize 5 2, invert 0 3
        equalize 2 0, autocontrast 6 0
        equalize 2 8, equalize 6 4
        color 9 9, equalize 6 6
        autocontrast 8 4, solarize 2 8
        brightness 1 3, color 7 0
        solarize 4 5, autocontrast 9 3
        translate_y 9 9, translate_y 7 9
        autocontrast 9 2, solarize 8 3
        equalize 8 8, invert 1 3
        translate_y 7 9, autocontrast 9 1
    """,
    "svhn": """
        shear_x 9 4, invert 2 3
        shear_y 9 8, invert 7 5
        equalize 6 5, solarize 6 6
        invert 9 3, equalize 6 3
        equalize 6 1, rotate 9 3
        shear_x 9 4, autocontrast 8 3
        shear_y 9 8, invert 4 5
        shear_y 9 5, solarize 2 6
        invert 9 6, autocontrast 8 1
        equalize 6 3, rotate 9 3
        shear_x 9 4, solarize 3 3
        shear_y 8 8, invert 7 4
        equalize 9 5, translate_y 6 6
        invert 9 4, equalize 6 7
        contrast 3 3, rotate 8 4
        invert 8 5, translate_y 0 2
        shear_y 7 6, solarize 4 8
        invert 6 4, rotate 8 4
        shear_y 3 7, translate_x 9 3
        shear_x 1 6, invert 6 5
        solarize 7 2, translate_y 6 7
        shear_y 8 4, invert 8 8
        shear_x 7 9, translate_y 8 3
        shear_y 8 5, autocontrast 7 3
        shear_x 7 2, invert 1 5
    """,
}
_HIGHEST = 9


def read_policy(name: str) -> np.ndarray:
    """Return a policy, float32 [25, 2, 3]: of each operation its number, its probability and its level, 0 to 1."""
    numbers = {operation: number for number, operation in enumerate(WITH_INVERSION)}
    rows = [[part.split() for part in line.split(",")] for line in POLICIES[name].strip().splitlines()]
    return np.array(
        [[(numbers[op], int(tenths) / 10, int(level) / _HIGHEST) for op, tenths, level in row] for row in rows],
        np.float32,
    )


@per_image("autoaugment", policy=tuple(POLICIES))
def auto_augment(image: tf.Tensor, seed: tf.Tensor, *, policy: str = "imagenet") -> tf.Tensor:
    """Apply one of a policy's 25 sub-policies: two operations, each with its probability (Cubuk et al. 2019)."""
    chosen, *draws = tf.unstack(tf.random.stateless_uniform([5], seed))
    rows = read_policy(policy)
    pair = tf.gather(rows, tf.cast(chosen * len(rows), tf.int32))
    identity = list(WITH_INVERSION).index("identity")
    for (number, probability, level), draw, turn in zip(
        map(tf.unstack, tf.unstack(pair)), draws[:2], draws[2:], strict=True
    ):
        choice = tf.where(draw < probability, tf.cast(number, tf.int32), identity)
        image = apply_one(WITH_INVERSION, choice, image, level, turn)
    return image
