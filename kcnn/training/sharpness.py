"""Sharpness-aware minimisation (Foret et al., ICLR 2021): weights whose whole neighbourhood has a low loss."""

from typing import Any

import keras
import tensorflow as tf


class SharpnessAwareModel(keras.Model):
    """A classifier, sharing its layers with the one that it is made of, that learns from the steepest neighbour.

    A step takes the gradient not at the weights w but at w + rho g / |g|, where g is the same batch's gradient at w
    (equations 2 and 3). Both passes draw the same random numbers, dropout's for example. The moving statistics, the
    loss and the metrics are those of the pass at w. A step takes about twice the time.
    """

    @classmethod
    def of(cls, model: keras.Model, radius: float) -> "SharpnessAwareModel":
        """Return `model`, of one output, as one that trains at a distance of `radius`, the paper's rho, above 0."""
        made = cls(model.input, model.outputs[0], name=model.name)
        made.radius = radius
        return made

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Update the weights by a batch of images and labels; return the metrics."""
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        variables = self.trainable_variables
        state = [(variable, tf.identity(variable.value)) for variable in self.non_trainable_variables]

        def scaled_loss() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            outputs = self(images, training=True)
            loss = self.compute_loss(images, labels, outputs, sample_weight, training=True)
            return self.optimizer.scale_loss(loss), loss, outputs

        with tf.GradientTape() as tape:
            scaled, loss, outputs = scaled_loss()
        replica = tf.distribute.get_replica_context()
        gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, tape.gradient(scaled, variables))
        stretch = tf.math.divide_no_nan(self.radius, tf.linalg.global_norm(gradients))
        moved = [variable.value + stretch * each for variable, each in zip(variables, gradients, strict=True)]
        mapping = [*zip(variables, moved, strict=True), *state]
        with keras.StatelessScope(mapping, initialize_variables=False), tf.GradientTape() as tape:
            tape.watch(moved)
            scaled, *_ = scaled_loss()
        self.optimizer.apply(tape.gradient(scaled, moved), variables)
        # As Keras' own step has it: the loss is scaled for the sum over devices, and shown unscaled.
        self._loss_tracker.update_state(loss * replica.num_replicas_in_sync, sample_weight=tf.shape(images)[0])
        return self.compute_metrics(images, labels, outputs, sample_weight)
