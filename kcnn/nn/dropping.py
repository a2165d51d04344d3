"""Layers that leave out regions of a feature map, or weights, in training. At inference they leave out nothing."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kcnn")
class DropBlock(keras.layers.Layer):
    """DropBlock (Ghiasi et al., "DropBlock: A regularization method for convolutional networks", NeurIPS 2018).

    Sets squares of a feature map to 0, drawn for each image and channel, and scales the rest up (algorithm 1). A place
    begins a square with probability gamma, equation 1, for which about `rate` of the places are in some square.

    Args:
        rate: the paper's 1 - keep_prob, 0 to less than 1.
        block_size: side of the squares; as long as the map where that is smaller.
        seed: of the draws; None takes it from `keras.utils.set_random_seed`.
    """

    def __init__(self, rate: float, block_size: int = 7, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        self.rate, self.block_size, self.seed = rate, block_size, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Drop squares of float [N, H, W, C] → the same shape; H and W are known."""
        if not training or not self.rate:
            return inputs
        batch, (height, width, channels) = tf.shape(inputs)[0], inputs.shape[1:]
        tall, wide = min(self.block_size, height), min(self.block_size, width)
        rows, columns = height - tall + 1, width - wide + 1  # where whole squares begin
        gamma = self.rate / (tall * wide) * (height * width) / (rows * columns)
        draws = keras.random.uniform((batch, rows, columns, channels), dtype="float32", seed=self.seed_generator)
        margins = ((0, 0), (tall - 1, tall - 1), (wide - 1, wide - 1), (0, 0))
        begun = tf.pad(tf.cast(draws < gamma, tf.float32), margins)
        kept = 1 - tf.nn.max_pool2d(begun, (tall, wide), 1, "VALID")
        return inputs * tf.cast(tf.math.divide_no_nan(kept, tf.reduce_mean(kept)), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "block_size": self.block_size, "seed": self.seed}


@keras.saving.register_keras_serializable("kcnn")
class DropConnect(keras.layers.Dense):
    """A dense layer that leaves out weights (Wan et al., "Regularization of Neural Networks using DropConnect", 2013).

    In training it sets weights of the kernel to 0 and divides the others by 1 - rate. Deviations: one mask for each
    batch, where the paper draws one for each image; at inference the mean network, where the paper samples.

    Args:
        units: outputs.
        rate: probability that a weight is left out, 0 to less than 1.
        seed: of the draws; None takes it from `keras.utils.set_random_seed`.
    """

    def __init__(self, units: int, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(units, **kwargs)
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Map float [N, D] → [N, units]."""
        if not training or not self.rate:
            return super().call(inputs)
        kernel = keras.random.dropout(tf.convert_to_tensor(self.kernel), self.rate, seed=self.seed_generator)
        outputs = tf.matmul(inputs, kernel)
        return self.activation(outputs + self.bias if self.use_bias else outputs)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
