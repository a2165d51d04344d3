"""Convolutions that compute what Keras' do, and train faster on CPUs."""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kcnn")
class PointwiseConv(keras.layers.Conv2D):
    """A convolution that, 1x1, trains on a CPU as one matrix product: a sixth more MobileNetV2 steps.

    Otherwise Keras' own: on GPUs, which convolve in another memory layout, and at inference, where TensorFlow fuses a
    convolution with the operation after it.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Convolve float [N, H, W, C] → [N, H', W', filters]."""
        pointwise = self.kernel_size == (1, 1) and self.groups == 1
        if not training or not pointwise or tf.config.list_physical_devices("GPU"):
            return super().call(inputs)
        if max(self.strides) > 1:  # every so many places: slices' gradients are slow
            inputs = tf.nn.avg_pool2d(inputs, 1, self.strides, "VALID")
        outputs = tf.tensordot(inputs, tf.reshape(self.kernel, self.kernel.shape[2:]), 1)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@functools.cache
def _grouped_gradients(dtype: str) -> bool:
    """Return whether TensorFlow differentiates a grouped convolution of `dtype` here.

    It does so on GPUs and with oneDNN, which does not know float16 and is off on CPUs without AVX-512 VNNI. The
    gradient's own operation is asked: `tf.init_scope` stops tapes, so that a tape in it answers None and no error.
    """
    with tf.init_scope():
        kernel, upstream = tf.ones((1, 2, 2, 4), dtype), tf.ones((1, 2, 2, 4), dtype)
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=(1, 2, 2, 4), filter=kernel, out_backprop=upstream, strides=[1, 1, 1, 1], padding="SAME"
            )
        except tf.errors.OpError:
            return False
    return True


def _depthwise_conv(
    images: tf.Tensor, kernel: tf.Tensor, strides: tuple[int, int], padding: str, training: bool | None
) -> tf.Tensor:
    """Convolve float [N, H, W, C] depthwise by [K, K', C, 1].

    oneDNN, TensorFlow's library on CPUs, computes the kernel's gradient at a third of the speed of the rest where the
    kernel is larger than 3x3. There it is computed as what it is: for each image and channel, the convolution of the
    input with the gradient of the output, as one depthwise convolution whose channels are those of all images.
    """
    strides_4d = (1, *strides, 1)
    height, width = kernel.shape[:2]
    slow = training and max(height, width) > 3 and None not in images.shape[1:3] and images.dtype == tf.float32
    if not slow or tf.config.list_physical_devices("GPU") or not _grouped_gradients("float32"):
        return tf.nn.depthwise_conv2d(images, kernel, strides_4d, padding)

    def channels_of_all(x: tf.Tensor) -> tf.Tensor:
        """Turn [N, H, W, C] into [1, H, W, N * C]."""
        return tf.reshape(tf.transpose(x, (1, 2, 0, 3)), (1, *x.shape[1:3], -1))

    @tf.custom_gradient
    def convolve(images: tf.Tensor, kernel: tf.Tensor) -> tuple[tf.Tensor, Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            by_images = tf.nn.depthwise_conv2d_backprop_input(tf.shape(images), kernel, upstream, strides_4d, padding)
            margins = [(0, 0)]
            for length, size, stride, taps in zip(
                images.shape[1:3], upstream.shape[1:3], strides, (height, width), strict=True
            ):
                # The places that the convolution looked at: `taps` more than its windows' first ones are apart.
                missing = (size - 1) * stride + taps - length
                before = max(missing, 0) // 2 if padding == "SAME" else 0
                margins.append((before, max(missing - before, 0)))
            taken, given = channels_of_all(images), channels_of_all(upstream)
            products = tf.nn.conv2d(taken, tf.transpose(given, (1, 2, 0, 3)), 1, [*margins, (0, 0)], dilations=strides)
            products = tf.reshape(products[:, :height, :width], (height, width, -1, images.shape[3], 1))
            return by_images, tf.reduce_sum(products, axis=2)

        return tf.nn.depthwise_conv2d(images, kernel, strides_4d, padding), gradient

    return convolve(images, kernel)


@keras.saving.register_keras_serializable("kcnn")
class DepthwiseConv(keras.layers.DepthwiseConv2D):
    """A depthwise convolution that trains with 5x5 and larger kernels on a CPU in half the time (`_depthwise_conv`)."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Convolve float [N, H, W, C] → [N, H', W', C * depth_multiplier]."""
        if not training or self.depth_multiplier > 1 or self.dilation_rate != (1, 1):
            return super().call(inputs)
        kernel = tf.convert_to_tensor(self.kernel)
        outputs = _depthwise_conv(inputs, kernel, self.strides, self.padding.upper(), training)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable("kcnn")
class GroupedConv(keras.layers.Conv2D):
    """A grouped convolution on TensorFlow's own kernel, where Keras compiles one with XLA: 200 times slower on a CPU.

    Trains as one convolution for each group where TensorFlow has no gradient (see `_grouped_gradients`).
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Convolve float [N, H, W, C] → [N, H', W', filters]."""
        padding = self.padding.upper()
        if self.groups == self.filters == inputs.shape[-1]:
            kernel = tf.transpose(self.kernel, (0, 1, 3, 2))
            outputs = _depthwise_conv(inputs, kernel, self.strides, padding, training)
            return self.activation(outputs + self.bias if self.use_bias else outputs)
        convolve = functools.partial(tf.nn.conv2d, strides=self.strides, padding=padding)
        if training and not _grouped_gradients(keras.backend.standardize_dtype(inputs.dtype)):
            parts = zip(tf.split(inputs, self.groups, -1), tf.split(self.kernel, self.groups, -1), strict=True)
            outputs = tf.concat([convolve(image, kernel) for image, kernel in parts], -1)
        else:
            outputs = convolve(inputs, tf.convert_to_tensor(self.kernel))
        if not training:
            # Keeps TensorFlow's optimizer from fusing the convolution with a batch norm after it: without oneDNN the
            # fused kernel knows no groups. Exports have neither this operation nor the batch norm.
            outputs = tf.ensure_shape(outputs, outputs.shape)
        return self.activation(outputs + self.bias if self.use_bias else outputs)
