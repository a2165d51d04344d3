"""Layers without weights: channels, margins, stochastic depth."""

from typing import Any

import keras
import tensorflow as tf

# The shape of a tensor, as Keras hands it to layers; it has None for the batch and for sides that are not known.
Shape = tuple[int, ...]


@keras.saving.register_keras_serializable("kcnn")
class ChannelShuffle(keras.layers.Layer):
    """The channels of `groups` groups, interleaved (Zhang et al., "ShuffleNet", CVPR 2018, figure 1)."""

    def __init__(self, groups: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Shuffle [N, H, W, C] → the same shape; C is a multiple of `groups`."""
        *_, height, width, channels = inputs.shape
        grouped = tf.reshape(inputs, (-1, height, width, self.groups, channels // self.groups))
        return tf.reshape(tf.transpose(grouped, (0, 1, 2, 4, 3)), (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


@keras.saving.register_keras_serializable("kcnn")
class ChannelSplit(keras.layers.Layer):
    """A list of `parts` tensors, each with as many of the channels."""

    def __init__(self, parts: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.parts = parts

    def call(self, inputs: tf.Tensor) -> list[tf.Tensor]:
        """Split [N, H, W, C] → a list of [N, H, W, C / parts]; C is a multiple of `parts`."""
        return tf.split(inputs, self.parts, axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> list[Shape]:
        return [(*input_shape[:-1], input_shape[-1] // self.parts)] * self.parts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "parts": self.parts}


@keras.saving.register_keras_serializable("kcnn")
class SamePadding(keras.layers.Layer):
    """The margin of "same" padding, of zeros: for poolings, which on their own leave it out of their account."""

    def __init__(self, kernel_size: int, stride: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.kernel_size, self.stride = kernel_size, stride

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pad [N, H, W, C] → [N, H', W', C]."""
        margins = [max(self.kernel_size - (side % self.stride or self.stride), 0) for side in inputs.shape[1:3]]
        return tf.pad(inputs, [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size, "stride": self.stride}


@keras.saving.register_keras_serializable("kcnn")
class LowestPadding(keras.layers.ZeroPadding2D):
    """A margin of the lowest number there is, for max pooling: nothing loses to it, whatever its sign.

    On a CPU the gradient of `tf.nn.max_pool2d` with explicit padding takes six times as long.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pad [N, H, W, C] → [N, H', W', C]."""
        return tf.pad(inputs, ((0, 0), *self.padding, (0, 0)), constant_values=inputs.dtype.min)


@keras.saving.register_keras_serializable("kcnn")
class Crop(keras.layers.Cropping2D):
    """Margins cut off; the gradient of the slicing that Keras does takes a CPU ten times as long as padding does."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Crop [N, H, W, C] → [N, H', W', C]."""
        height, width = inputs.shape[1:3]
        if height is None or width is None:
            return super().call(inputs)
        (top, bottom), (left, right) = self.cropping
        return tf.slice(inputs, (0, top, left, 0), (-1, height - top - bottom, width - left - right, -1))


@keras.saving.register_keras_serializable("kcnn")
class StochasticDepth(keras.layers.Dropout):
    """Stochastic depth (Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016).

    Drops whole samples of a residual branch in training and scales the others by 1 / (1 - rate); the identity at
    inference.

    Args:
        rate: probability that a sample is dropped, 0 to 1.
        seed: of the draws; None takes it from `keras.utils.set_random_seed`.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop samples of float [N, ...] → the same shape."""
        if not training or not self.rate:
            return inputs
        per_sample = (None, *[1] * (len(inputs.shape) - 1))
        return keras.random.dropout(inputs, self.rate, noise_shape=per_sample, seed=self.seed_generator)


@keras.saving.register_keras_serializable("kcnn")
class PadChannels(keras.layers.Layer):
    """`channels` more channels, of zeros, after those there are."""

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Pad [N, H, W, C] → [N, H, W, C + channels]."""
        return tf.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, self.channels)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], input_shape[-1] + self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("kcnn")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR and back: [..., C] with the channels in reverse order."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Reverse [..., C] → the same shape."""
        return tf.reverse(inputs, axis=[-1])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape
