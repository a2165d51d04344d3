"""Whether a network answers in bfloat16: where this machine gains from it and the answers bear it."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kcnn.serving.graph import Network, as_function, in_bfloat16

GAIN = 1.15  # times as fast, at least
AGREEMENT = 0.995  # of the top classes, at least
WORTH_SECONDS = 0.002  # what takes less is spent on other things than arithmetic
_ROUNDS, _ROUND_SECONDS = 15, 6.0  # of measuring, until either is used up
_COMPARE_SECONDS = 30.0


def choose(network: Network, images: tf.Tensor, batch_size: int) -> tuple[Network, dict[str, Any]]:
    """`network` in bfloat16 or as it is.

    Args:
        network: float32; its first output are the logits.
        images: float32 [M, h, w, 3], M ≥ 1, to time it on and to compare the top classes of.
        batch_size: images a request.

    Returns:
        the network; and `precision`, "float32" or "bfloat16", with what that rests on as far as it was measured:
        `speedup` of bfloat16, `agreement` of its top classes, `compared`, how many.
    """
    exact, _ = as_function(network)
    batch = tf.gather(images, tf.range(batch_size) % len(images))
    if min(_seconds(exact, batch) for _ in range(4)) < WORTH_SECONDS:
        return network, {"precision": "float32"}
    candidate = in_bfloat16(network)
    rounded, _ = as_function(candidate)
    for _ in range(2):
        _seconds(rounded, batch)
    ratios: list[float] = []
    deadline = time.perf_counter() + _ROUND_SECONDS
    while len(ratios) < _ROUNDS and (len(ratios) < 3 or time.perf_counter() < deadline):
        ratios.append(_seconds(exact, batch) / _seconds(rounded, batch))
    facts: dict[str, Any] = {"speedup": round(statistics.median(ratios), 2)}
    if facts["speedup"] < GAIN:
        return network, {"precision": "float32", **facts}
    same: list[bool] = []
    deadline = time.perf_counter() + _COMPARE_SECONDS
    for part in tf.split(images, [*[batch_size] * (len(images) // batch_size), len(images) % batch_size]):
        if len(part) and (not same or time.perf_counter() < deadline):
            same += (exact(part)[0].numpy().argmax(1) == rounded(part)[0].numpy().argmax(1)).tolist()
    facts |= {"agreement": round(float(np.mean(same)), 4), "compared": len(same)}
    if facts["agreement"] < AGREEMENT:
        return network, {"precision": "float32", **facts}
    return candidate, {"precision": "bfloat16", **facts}


def _seconds(function: Callable[[tf.Tensor], list[tf.Tensor]], batch: tf.Tensor) -> float:
    start = time.perf_counter()
    function(batch)[0].numpy()
    return time.perf_counter() - start


def patterns(count: int, image_size: tuple[int, int]) -> tf.Tensor:
    """Pictures to measure with where there are none: noise, coarse and fine; float32 [count, h, w, 3], always the
    same."""
    random = np.random.default_rng(0)
    layers = [
        tf.image.resize(random.normal(0, weight, (count, side, side, 3)).astype(np.float32), image_size, "bicubic")
        for side, weight in ((2, 60), (5, 50), (16, 30), (64, 15))
    ]
    return tf.clip_by_value(127.5 + tf.add_n(layers), 0.0, 255.0)
