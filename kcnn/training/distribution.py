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


def without_sharding(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Return the same batches, which a strategy does not try to divide among worker machines.

    There is one worker, so nothing would be divided; but each iterator looks through all of the input's graph for the
    place to do it, which takes 20 seconds on two cores.
    """
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options)
