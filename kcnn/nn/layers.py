"""The project's own layers."""

import functools
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
    """A convolution that, 1x1, trains on a CPU as one matrix product: a sixth more MobileNetV2 steps.

    Otherwise Keras' own: on GPUs, which convolve in another memory layout, and at inference, where TensorFlow fuses a
    convolution with what is behind it.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """float [N, H, W, C] → [N, H', W', filters]."""
        pointwise = self.kernel_size == (1, 1) and self.groups == 1
        if not training or not pointwise or tf.config.list_physical_devices("GPU"):
            return super().call(inputs)
        if max(self.strides) > 1:  # every so many places: slices' gradients are slow
            inputs = tf.nn.avg_pool2d(inputs, 1, self.strides, "VALID")
        outputs = tf.tensordot(inputs, tf.reshape(self.kernel, self.kernel.shape[2:]), 1)
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@functools.cache
def _grouped_gradients(dtype: str) -> bool:
    """Whether TensorFlow differentiates a grouped convolution: on GPUs and with oneDNN, which does not know float16."""
    with tf.init_scope(), tf.GradientTape() as tape:
        image, kernel = (tf.ones((1, 2, 2, channels), dtype) for channels in (4, 2))
        tape.watch([image, kernel])
        outputs = tf.nn.conv2d(image, tf.repeat(kernel, 2, axis=3), 1, "SAME")
        try:
            tape.gradient(outputs, [image, kernel])
        except tf.errors.OpError:
            return False
    return True


def _depthwise_conv(images: Any, kernel: Any, strides: tuple[int, int], padding: str, training: bool | None) -> Any:
    """Depthwise convolution of float [N, H, W, C] by [K, K', C, 1].

    oneDNN, TensorFlow's library on CPUs, finds the kernel's gradient at a third of the speed of the rest where the
    kernel is larger than 3x3. There it is found as what it is: for each image and channel, the convolution of what came
    in with the gradient of what went out, as one depthwise convolution whose channels are those of all images.
    """
    strides_4d = (1, *strides, 1)
    height, width = kernel.shape[:2]
    slow = training and max(height, width) > 3 and None not in images.shape[1:3] and images.dtype == tf.float32
    if not slow or tf.config.list_physical_devices("GPU") or not _grouped_gradients("float32"):
        return tf.nn.depthwise_conv2d(images, kernel, strides_4d, padding)

    def channels_of_all(x: Any) -> Any:
        """[N, H, W, C] → [1, H, W, N * C]."""
        return tf.reshape(tf.transpose(x, (1, 2, 0, 3)), (1, *x.shape[1:3], -1))

    @tf.custom_gradient
    def convolve(images, kernel):
        def gradient(upstream):
            by_images = tf.nn.depthwise_conv2d_backprop_input(tf.shape(images), kernel, upstream, strides_4d, padding)
            margins = [(0, 0)]
            for length, size, stride, taps in zip(
                images.shape[1:3], upstream.shape[1:3], strides, (height, width), strict=True
            ):
                # What the convolution looked at: `taps` more places than its windows' first ones are apart.
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

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """float [N, H, W, C] → [N, H', W', C * depth_multiplier]."""
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

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """float [N, H, W, C] → [N, H', W', filters]."""
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
        return self.activation(outputs + self.bias if self.use_bias else outputs)


@keras.saving.register_keras_serializable("kcnn")
class ChannelShuffle(keras.layers.Layer):
    """Interleaves the channels of `groups` groups (Zhang et al., "ShuffleNet", CVPR 2018, figure 1)."""

    def __init__(self, groups: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, inputs: Any) -> Any:
        """[N, H, W, C] → the same shape; C is a multiple of `groups`."""
        *_, height, width, channels = inputs.shape
        grouped = tf.reshape(inputs, (-1, height, width, self.groups, channels // self.groups))
        return tf.reshape(tf.transpose(grouped, (0, 1, 2, 4, 3)), (-1, height, width, channels))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}


@keras.saving.register_keras_serializable("kcnn")
class ChannelSplit(keras.layers.Layer):
    """A list of `parts` tensors, each with as many of the channels."""

    def __init__(self, parts: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.parts = parts

    def call(self, inputs: Any) -> Any:
        """[N, H, W, C] → a list of [N, H, W, C / parts]; C is a multiple of `parts`."""
        return tf.split(inputs, self.parts, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return [(*input_shape[:-1], input_shape[-1] // self.parts)] * self.parts

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "parts": self.parts}


@keras.saving.register_keras_serializable("kcnn")
class SamePadding(keras.layers.Layer):
    """The margin of "same" padding, of zeros: for poolings, which on their own leave it out of their account."""

    def __init__(self, kernel_size: int, stride: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.kernel_size, self.stride = kernel_size, stride

    def call(self, inputs: Any) -> Any:
        """[N, H, W, C] → [N, H', W', C]."""
        margins = [max(self.kernel_size - (side % self.stride or self.stride), 0) for side in inputs.shape[1:3]]
        return tf.pad(inputs, [(0, 0), *((margin // 2, margin - margin // 2) for margin in margins), (0, 0)])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel_size": self.kernel_size, "stride": self.stride}


@keras.saving.register_keras_serializable("kcnn")
class LocalResponseNorm(keras.layers.Layer):
    """Divides by what neighbouring channels answer (Krizhevsky et al., NeurIPS 2012, section 3.3).

    x / (bias + alpha * sum of squares over the channels within `depth_radius`) ** beta, as in the paper: Caffe and
    PyTorch divide their alpha by the number of channels summed over.
    """

    def __init__(self, depth_radius: int, bias: float, alpha: float, beta: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta

    def call(self, inputs: Any) -> Any:
        """float [N, H, W, C] → the same shape; computed in float32."""
        outputs = tf.nn.local_response_normalization(
            tf.cast(inputs, tf.float32), self.depth_radius, self.bias, self.alpha, self.beta
        )
        return tf.cast(outputs, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        names = ("depth_radius", "bias", "alpha", "beta")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("kcnn")
class LayerNorm(keras.layers.LayerNormalization):
    """Layer normalisation (Ba et al., arXiv:1607.06450) over the last axis, with its gradient written by hand.

    Takes the arguments of Keras' layer and computes what it computes; in training in three quarters of the time.
    Inference, other axes, and no scale or no centre go the parent's way.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """float [..., C] → the same shape, in the compute dtype; computed in float32, or float64 where given that."""
        last = list(self.axis) in ([-1], [len(inputs.shape) - 1])
        if not training or not last or not self.scale or not self.center or self.rms_scaling:
            return super().call(inputs)
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        gamma, beta = (tf.cast(variable, dtype) for variable in (self.gamma, self.beta))
        rows = tf.reshape(tf.cast(inputs, dtype), (-1, inputs.shape[-1]))
        outputs = _normalize_rows(rows, gamma, beta, self.epsilon)
        return tf.cast(tf.reshape(outputs, tf.shape(inputs)), self.compute_dtype)


def _normalize_rows(rows: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """Each row of [M, C] less its mean, divided by its deviation, times gamma, plus beta."""

    @tf.custom_gradient
    def normalize(rows, gamma, beta):
        centred = rows - tf.reduce_mean(rows, axis=1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=1, keepdims=True) + epsilon)
        normal = centred * inverse

        def gradient(upstream):
            products = upstream * normal
            by_normal = upstream * gamma
            mean = tf.reduce_mean(by_normal, axis=1, keepdims=True)
            correlation = tf.reduce_mean(by_normal * normal, axis=1, keepdims=True)
            by_rows = (by_normal - mean - normal * correlation) * inverse
            return by_rows, tf.reduce_sum(products, axis=0), tf.reduce_sum(upstream, axis=0)

        return normal * gamma + beta, gradient

    return normalize(rows, gamma, beta)


@keras.saving.register_keras_serializable("kcnn")
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a number that is learned (Touvron et al., "Going deeper with Image Transformers",
    ICCV 2021).

    Args:
        init: of all of them at first; small, so that deep networks begin near the identity.
    """

    def __init__(self, init: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.init = init

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight(
            name="gamma", shape=input_shape[-1:], initializer=keras.initializers.Constant(self.init)
        )

    def call(self, inputs: Any) -> Any:
        """float [..., C] → the same shape."""
        return inputs * tf.cast(self.gamma, inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "init": self.init}


@keras.saving.register_keras_serializable("kcnn")
class Crop(keras.layers.Cropping2D):
    """Cuts off margins; the gradient of the slicing that Keras does takes a CPU ten times as long as padding does."""

    def call(self, inputs: Any) -> Any:
        """[N, H, W, C] → [N, H', W', C]."""
        height, width = inputs.shape[1:3]
        if height is None or width is None:
            return super().call(inputs)
        (top, bottom), (left, right) = self.cropping
        return tf.slice(inputs, (0, top, left, 0), (-1, height - top - bottom, width - left - right, -1))


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
class PadChannels(keras.layers.Layer):
    """`channels` zeros behind those there are."""

    def __init__(self, channels: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.channels = channels

    def call(self, inputs: Any) -> Any:
        """[N, H, W, C] → [N, H, W, C + channels]."""
        return tf.pad(inputs, ((0, 0), (0, 0), (0, 0), (0, self.channels)))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] + self.channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable("kcnn")
class ReverseChannels(keras.layers.Layer):
    """RGB to BGR and back: [..., C] with the channels in reverse order."""

    def call(self, inputs: Any) -> Any:
        return tf.reverse(inputs, axis=[-1])

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
