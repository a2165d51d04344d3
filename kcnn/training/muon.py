"""Muon: momentum whose updates are made orthogonal, for kernels; AdamW for the rest."""

import re
from collections.abc import Sequence

import keras
import tensorflow as tf

from kcnn.training.fused_optimizers import apply_adam


@keras.saving.register_keras_serializable("kcnn")
class Muon(keras.optimizers.Muon):
    """Muon, with the arguments of Keras' Muon.

    Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.

    Keras' own leaves all that is no matrix to AdamW, so every convolution. Here a convolution's kernel is the matrix
    [H * W * in, out], the transpose of Jordan's [out, in * H * W]; the orthogonal update of a transpose is the
    transposed update. Updates are scaled as in Keras (Liu et al., "Muon is Scalable for LLM Training", 2025, section
    2.2), so that AdamW's rate and decay suit both parts. There is one decay, `weight_decay`.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return len(variable.shape) < 2 or any(re.search(pattern, variable.path) for pattern in self.exclude_layers)

    def _muon_update_step(self, gradient: tf.Tensor, variable: tf.Variable, lr: tf.Tensor, m: keras.Variable) -> None:
        self.assign(m, self.momentum * m + gradient)
        step = gradient + self.momentum * m if self.nesterov else tf.convert_to_tensor(m)
        update = self.zeropower_via_newtonschulz5(tf.reshape(step, (-1, variable.shape[-1])), self.ns_steps)
        self.assign_sub(variable, tf.reshape(self.lr_adjust(lr * update), variable.shape))

    def _adamw_update_step(
        self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor, m: keras.Variable, v: keras.Variable
    ) -> None:
        betas = self.adam_beta_1, self.adam_beta_2
        apply_adam(gradient, variable, learning_rate, (m, v), self.iterations, betas, self.epsilon)

    def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
        """Apply it as Keras' other optimizers do, which know several devices."""
        keras.Optimizer._apply_weight_decay(self, variables)


def paths_for_adamw(model: keras.Model) -> list[str]:
    """Return patterns of the paths of a model's variables that Muon leaves to AdamW.

    These are vectors, the classifiers' last layers, and depthwise kernels, which are no matrix: each channel has a
    filter of its own.
    """
    return [
        f"^{re.escape(variable.path)}$"
        for layer in model.layers
        for variable in layer.trainable_variables
        if "kernel" not in variable.name or _is_depthwise(layer) or _is_classifier(layer)
    ]


def _is_depthwise(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, keras.layers.DepthwiseConv2D) or 1 < getattr(layer, "groups", 1) == layer.filters


def _is_classifier(layer: keras.layers.Layer) -> bool:
    return layer.name.startswith("head_") and layer.name.endswith("logits")
