"""Layers for raw pixels. Those with weights hold numbers of the training images, which training sets and none learns.

Until then they change nothing. They are chosen by `kcnn.nn.preprocessing`, and fitted by
`kcnn.training.pixel_statistics`.
"""

import math

import keras
import tensorflow as tf

from kcnn.nn.layers import Shape

# ITU-R BT.601, as Pillow and OpenCV have it. The weights sum to 1, so that a grey pixel keeps its value.
LUMA = (0.299, 0.587, 0.114)


@keras.saving.register_keras_serializable("kcnn")
class Luminance(keras.layers.Layer):
    """RGB as one channel."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Turn [N, H, W, 3] into [N, H, W, 1]."""
        return tf.reduce_sum(inputs * tf.constant(LUMA, inputs.dtype), axis=-1, keepdims=True)


@keras.saving.register_keras_serializable("kcnn")
class MeanImage(keras.layers.Layer):
    """The mean of the training images subtracted, at each position (Krizhevsky et al., NeurIPS 2012, section 2)."""

    word = "mean_image"

    def build(self, input_shape: Shape) -> None:
        self.mean = self.add_weight(input_shape[1:], "zeros", trainable=False, name="mean")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Center [N, H, W, C] → the same shape."""
        return inputs - self.mean


@keras.saving.register_keras_serializable("kcnn")
class ChannelMean(keras.layers.Layer):
    """The training images' mean of each channel subtracted (Simonyan & Zisserman, ICLR 2015, section 2.1)."""

    word = "mean"

    def build(self, input_shape: Shape) -> None:
        self.mean = self.add_weight(input_shape[-1:], "zeros", trainable=False, name="mean")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Center [N, H, W, C] → the same shape."""
        return inputs - self.mean


@keras.saving.register_keras_serializable("kcnn")
class ChannelDeviation(keras.layers.Layer):
    """Each channel divided by its standard deviation over the training images."""

    word = "deviation"

    def build(self, input_shape: Shape) -> None:
        self.deviation = self.add_weight(input_shape[-1:], "ones", trainable=False, name="deviation")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Scale [N, H, W, C] → the same shape."""
        return inputs * (1.0 / self.deviation)  # a product, which the export moves into a convolution's weights


class _Whitening(keras.layers.Layer):
    """A matrix product of whole images, all their positions and channels as one row of D numbers."""

    def build(self, input_shape: Shape) -> None:
        numbers = math.prod(input_shape[1:])
        self.matrix = self.add_weight((numbers, numbers), "identity", trainable=False, name="matrix")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Multiply [N, H, W, C] → the same shape."""
        numbers = self.matrix.shape[0]
        return tf.reshape(tf.reshape(inputs, (-1, numbers)) @ self.matrix, (-1, *inputs.shape[1:]))


@keras.saving.register_keras_serializable("kcnn")
class PCAWhitening(_Whitening):
    """Principal components of unit variance, the largest first, in the places of the pixels, row by row.

    Neighbours are no neighbours any more: what comes first should see the whole image.
    """

    word = "pca"


@keras.saving.register_keras_serializable("kcnn")
class ZCAWhitening(_Whitening):
    """Pixels without correlations, as near to the image as such can be (Krizhevsky 2009, appendix A)."""

    word = "zca"
