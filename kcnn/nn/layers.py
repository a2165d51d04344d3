"""The project's own layers."""

from typing import Any

import keras
import tensorflow as tf

_FUSED_DTYPES = ("float16", "bfloat16", "float32")


@keras.saving.register_keras_serializable("kcnn")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe & Szegedy, ICML 2015) on TensorFlow's fused kernel.

    Takes the arguments of Keras' layer and computes what it computes, in training, at inference and frozen; Keras 3
    runs it op by op, which takes about twice the time. Whatever the kernel has no way for goes the parent's: another
    rank than [N, H, W, C], float64, a mask, renormalisation, statistics synchronized over replicas.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """float [N, H, W, C] → the same shape, in the compute dtype; statistics in float32."""
        channels_last = len(inputs.shape) == 4 and self.axis in (-1, 3)
        special = mask is not None or self.renorm or self.synchronized
        if special or not channels_last or keras.backend.standardize_dtype(inputs.dtype) not in _FUSED_DTYPES:
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        train = bool(training) and self.trainable
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.cast(self.gamma, tf.float32) if self.scale else tf.ones([channels]),
            offset=tf.cast(self.beta, tf.float32) if self.center else tf.zeros([channels]),
            mean=[] if train else tf.cast(self.moving_mean, tf.float32),
            variance=[] if train else tf.cast(self.moving_variance, tf.float32),
            epsilon=self.epsilon,
            is_training=train,
        )
        if train:
            # The kernel answers with the unbiased variance, n / (n - 1) of what Keras keeps; n = 1 it leaves alone.
            count = tf.cast(tf.size(inputs) // channels, tf.float32)
            variance *= tf.maximum(count - 1, 1) / count
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + tf.cast(batch, moving.dtype) * (1 - self.momentum))
        return keras.ops.cast(outputs, self.compute_dtype)


@keras.saving.register_keras_serializable("kcnn")
class PointwiseConv(keras.layers.Conv2D):
    """A convolution that, 1x1 and at stride 1, trains on a CPU as one matrix product: a sixth more MobileNetV2 steps.

    Otherwise Keras' own: on GPUs, which convolve in another memory layout, and at inference, where TensorFlow fuses a
    convolution with what is behind it.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """float [N, H, W, C] → [N, H, W, filters]."""
        pointwise = self.kernel_size == self.strides == (1, 1) and self.groups == 1
        if not training or not pointwise or tf.config.list_physical_devices("GPU"):
            return super().call(inputs)
        outputs = tf.tensordot(inputs, tf.reshape(self.kernel, self.kernel.shape[2:]), 1)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable("kcnn")
class StochasticDepth(keras.layers.Dropout):
    """Drops whole samples of a residual branch in training (Huang et al., "Deep Networks with Stochastic Depth",
    ECCV 2016), scaling the others by 1 / (1 - rate); the identity at inference.

    Args:
        rate: probability that a sample is dropped, 0 to 1.
        seed: of the draws; None takes it from `keras.utils.set_random_seed`.
    """

    def call(self, inputs: Any, training: bool = False) -> Any:
        """float [N, ...] → the same shape."""
        if not training or not self.rate:
            return inputs
        per_sample = (None, *[1] * (len(inputs.shape) - 1))
        return keras.random.dropout(inputs, self.rate, noise_shape=per_sample, seed=self.seed_generator)


@keras.saving.register_keras_serializable("kcnn")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR and back: [..., C] with the channels in reverse order."""

    def call(self, inputs: Any) -> Any:
        return tf.reverse(inputs, axis=[-1])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
