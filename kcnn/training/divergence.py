"""A loss that is no longer a number: what the gradients were shortly before."""

import keras
import numpy as np
import tensorflow as tf

_SHOWN = 3  # variables


def largest_gradients(fitted: keras.Model, images: tf.Tensor, labels: tf.Tensor) -> str:
    """Return the variables with the largest gradients of a batch, and the largest entry of each, the largest first.

    Args:
        fitted: a compiled model, with weights that are numbers.
        images: a batch, as it is trained on.
        labels: of the images.
    """
    variables = fitted.trainable_variables

    def gradients() -> list[tf.Tensor | None]:
        with tf.GradientTape() as tape:
            loss = fitted.compute_loss(x=images, y=labels, y_pred=fitted(images, training=True), training=True)
        return tape.gradient(loss, [variable.value for variable in variables])

    strategy = tf.distribute.get_strategy()
    found = [strategy.experimental_local_results(gradient)[0] for gradient in strategy.run(gradients)]
    largest = {
        variable.path: float(np.abs(keras.ops.convert_to_numpy(gradient)).max())
        for variable, gradient in zip(variables, found, strict=True)
        if gradient is not None
    }
    # What is no number is larger than any.
    order = sorted(largest, key=lambda path: (np.isfinite(largest[path]), -largest[path]))
    return ", ".join(f"{path} {largest[path]:.2g}" for path in order[:_SHOWN])
