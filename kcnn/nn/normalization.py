"""Normalisations, and the scale that does without one."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kcnn.nn.layers import Shape

_FUSED_DTYPES = ("float16", "bfloat16", "float32")


@keras.saving.register_keras_serializable("kcnn")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation (Ioffe & Szegedy, ICML 2015) on TensorFlow's fused kernel.

    Takes the arguments of Keras' layer and computes what it computes, in training, at inference and frozen; Keras 3
    runs it op by op, which takes about twice the time. What the kernel cannot do, the parent does: another
    rank than [N, H, W, C], float64, a mask, renormalisation, statistics synchronized over replicas.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Normalise float [N, H, W, C] → the same shape, in the compute dtype; statistics in float32."""
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
class LayerNorm(keras.layers.LayerNormalization):
    """Layer normalisation (Ba et al., arXiv:1607.06450) over the last axis, with its gradient written by hand.

    Takes the arguments of Keras' layer and computes what it computes; in training in three quarters of the time.
    Inference, other axes, and no scale or no centre go the parent's way.
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalise float [..., C] → the same shape, in the compute dtype; computed in float32 or float64."""
        last = list(self.axis) in ([-1], [len(inputs.shape) - 1])
        if not training or not last or not self.scale or not self.center or self.rms_scaling:
            return super().call(inputs)
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        gamma, beta = (tf.cast(variable, dtype) for variable in (self.gamma, self.beta))
        rows = tf.reshape(tf.cast(inputs, dtype), (-1, inputs.shape[-1]))
        outputs = _normalize_rows(rows, gamma, beta, self.epsilon)
        return tf.cast(tf.reshape(outputs, tf.shape(inputs)), self.compute_dtype)


Gradients = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def _normalize_rows(rows: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Subtract its mean from each row of [M, C], divide by its deviation, multiply by gamma, add beta."""

    @tf.custom_gradient
    def normalize(rows: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Callable[..., Gradients]]:
        centred = rows - tf.reduce_mean(rows, axis=1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=1, keepdims=True) + epsilon)
        normal = centred * inverse

        def gradient(upstream: tf.Tensor) -> Gradients:
            products = upstream * normal
            by_normal = upstream * gamma
            mean = tf.reduce_mean(by_normal, axis=1, keepdims=True)
            correlation = tf.reduce_mean(by_normal * normal, axis=1, keepdims=True)
            by_rows = (by_normal - mean - normal * correlation) * inverse
            return by_rows, tf.reduce_sum(products, axis=0), tf.reduce_sum(upstream, axis=0)

        return normal * gamma + beta, gradient

    return normalize(rows, gamma, beta)


@keras.saving.register_keras_serializable("kcnn")
class LocalResponseNorm(keras.layers.Layer):
    """Local response normalisation (Krizhevsky et al., NeurIPS 2012, section 3.3).

    x / (bias + alpha * sum of squares over the channels within `depth_radius`) ** beta, as in the paper: Caffe and
    PyTorch divide their alpha by the number of channels summed over.
    """

    def __init__(self, depth_radius: int, bias: float, alpha: float, beta: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalise float [N, H, W, C] → the same shape; computed in float32."""
        outputs = tf.nn.local_response_normalization(
            tf.cast(inputs, tf.float32), self.depth_radius, self.bias, self.alpha, self.beta
        )
        return tf.cast(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        names = ("depth_radius", "bias", "alpha", "beta")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("kcnn")
class LayerScale(keras.layers.Layer):
    """A learned factor for each channel (Touvron et al., "Going deeper with Image Transformers", ICCV 2021).

    Args:
        init: of all of them at first; small, so that deep networks begin near the identity.
    """

    def __init__(self, init: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.init = init

    def build(self, input_shape: Shape) -> None:
        self.gamma = self.add_weight(
            name="gamma", shape=input_shape[-1:], initializer=keras.initializers.Constant(self.init)
        )

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Scale float [..., C] → the same shape."""
        return inputs * tf.cast(self.gamma, inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "init": self.init}
