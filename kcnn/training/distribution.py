"""The devices that a model trains on."""

from collections.abc import Sequence

import tensorflow as tf

from kcnn.errors import UserError


def choose_strategy(devices: Sequence[str] | None = None) -> tf.distribute.Strategy:
    """Return MirroredStrategy over the devices, or TensorFlow's default strategy for fewer than two.

    Args:
        devices: names of logical devices; None for all GPUs.
    """
    if devices is None:
        devices = [device.name for device in tf.config.list_logical_devices("GPU")]
    return tf.distribute.MirroredStrategy(devices) if len(devices) > 1 else tf.distribute.get_strategy()


def check_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Check that every replica gets the same number of images, so that their gradients weigh the same.

    Raises:
        UserError: the batch does not divide over the replicas.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        nearest = max(replicas, round(batch_size / replicas) * replicas)
        raise UserError(
            f"--batch_size {batch_size}: expected a multiple of the {replicas} devices; the nearest is {nearest}"
        )
