"""STANDIN"""
import tensorflow as tf
from kcnn.data import examples
from kcnn.data.transform import preprocess


def steps_per_epoch(count, batch_size):
    return max(1, count // batch_size)


def evaluation_batches(paths, *, num_classes, batch_size, preprocessing):
    def f(s):
        e = examples.parse(s)
        return preprocess(e["encoded"], preprocessing), tf.one_hot(e["label"], num_classes)
    return examples.read(paths).map(f, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size).prefetch(2)


def training_batches(paths, *, num_classes, batch_size, preprocessing, augmentations, crop_scale, seed, epochs, count, mean_bytes):
    def epoch(e):
        return examples.read(paths).shuffle(count, seed=seed + e).map(lambda s: (preprocess(examples.parse(s)["encoded"], preprocessing), tf.one_hot(examples.parse(s)["label"], num_classes)), num_parallel_calls=2).batch(batch_size, drop_remainder=True)
    import functools
    return functools.reduce(lambda a, b: a.concatenate(b), map(epoch, epochs)).prefetch(2)
