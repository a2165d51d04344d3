"""A network as a function of TensorFlow, for inference."""

import keras
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction


def inference_function(network: keras.Model) -> ConcreteFunction:
    """Return `network` in inference mode as one graph, for batches of any size.

    It is traced at once, and once. Weights that are assigned later count.

    Args:
        network: float32 [N, ...] → one output.
    """
    images = tf.TensorSpec((None, *network.input.shape[1:]), tf.float32)
    forward = tf.function(lambda batch: network(batch, training=False), input_signature=[images], autograph=False)
    return forward.get_concrete_function()
