"""The project's own layers."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("kcnn")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe & Szegedy, ICML 2015) on TensorFlow's fused kernel.

    Takes the arguments of Keras' layer and computes what it computes, in training, at inference and frozen; Keras 3
    runs it op by op, which takes about twice the time. Inputs of another rank than [N, H, W, C], masked ones, and
    statistics synchronized over replicas go the parent's way.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """float [N, H, W, C] → the same shape, in the compute dtype; statistics in float32."""
        if len(inputs.shape) != 4 or self.axis not in (-1, 3) or mask is not None or self.synchronized:
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones([channels])
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros([channels])
        gamma, beta = tf.cast(gamma, tf.float32), tf.cast(beta, tf.float32)
        use_batch_statistics = bool(training) and self.trainable
        moving = [tf.cast(tf.convert_to_tensor(v), tf.float32) for v in (self.moving_mean, self.moving_variance)]
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=gamma,
            offset=beta,
            mean=[] if use_batch_statistics else moving[0],
            variance=[] if use_batch_statistics else moving[1],
            epsilon=self.epsilon,
            is_training=use_batch_statistics,
        )
        if use_batch_statistics:
            # The kernel answers with the unbiased variance, n/(n-1) of what Keras keeps.
            count = tf.cast(tf.size(inputs) // channels, tf.float32)
            variance *= tf.maximum(count - 1, 1) / count
            for moving_variable, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                update = moving_variable * self.momentum + tf.cast(value, moving_variable.dtype) * (1 - self.momentum)
                moving_variable.assign(update)
        return outputs


@keras.saving.register_keras_serializable("kcnn")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR and back: [..., C] with the channels in reverse order."""

    def call(self, inputs: Any) -> Any:
        return tf.reverse(inputs, axis=[-1])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
