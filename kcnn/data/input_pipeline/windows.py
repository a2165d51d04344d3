"""Random windows of an image."""

import tensorflow as tf

from kcnn.data.input_pipeline.decode import decode_window
from kcnn.data.input_pipeline.transform import Preprocessing, fit_to_size

ASPECT_RATIOS = (3 / 4, 4 / 3)  # width over height of the random crop


def random_resized_crop(
    encoded: tf.Tensor, spec: Preprocessing, scale: tuple[float, float], seed: tf.Tensor
) -> tf.Tensor:
    """Decode a random window of an image at the model's size; the whole image when none fits after ten attempts.

    Args:
        encoded: scalar string.
        spec: size and resampling.
        scale: smallest and largest area of the window as parts of the image's.
        seed: int [2].

    Returns:
        float32 [h, w, 3] in 0-255.
    """

    def choose(shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.concat([shape, [3]], axis=0),
            tf.zeros([1, 0, 4]),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=ASPECT_RATIOS,
            area_range=scale,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return begin[:2], size[:2]

    return fit_to_size(decode_window(encoded, choose, spec.image_size), spec)
