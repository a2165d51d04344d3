"""The choice between float32 and bfloat16: bfloat16 where this machine gains from it and the answers bear it."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kcnn.serving.export.dtypes import in_bfloat16
from kcnn.serving.export.network import Network, as_function

GAIN = 1.15  # times as fast, at least
AGREEMENT = 0.995  # of the top classes, at least
PICTURES = 100  # at least; without a difference among so many, more than 3% of all is unlikely (95%)
WORTH_SECONDS = 0.002  # a shorter request spends its time on other things than arithmetic
_ROUNDS, _ROUND_SECONDS = 15, 6.0  # of measuring, until either is used up
_COMPARE_SECONDS = 30.0


def choose_precision(network: Network, images: tf.Tensor, batch_size: int) -> tuple[Network, dict[str, Any]]:
    """Return the network in bfloat16 or as it is, with the facts that decided.

    Args:
        network: float32; its first output are the logits.
        images: float32 [M, h, w, 3], M ≥ 0 pictures of the kind that the network is for, to compare the top classes.
            On other pictures its answers are near ties, or all the same, and the comparison is worth nothing.
        batch_size: images a request.

    Returns:
        The network; and the facts: `precision`, "float32" or "bfloat16"; and as far as measured, `speedup` of bfloat16,
        `compared` (the number of pictures), `agreement` of the top classes, `classes` (the number of different ones),
        and the `reason` for float32.
    """

    def stays(reason: str, **facts: Any) -> tuple[Network, dict[str, Any]]:
        return network, {"precision": "float32", "reason": reason, **facts}

    if len(images) < PICTURES:
        return stays(f"bfloat16 wants {PICTURES} pictures to be compared on", compared=len(images))
    exact, _ = as_function(network)
    batch = images[:batch_size]
    if min(_seconds(exact, batch) for _ in range(4)) < WORTH_SECONDS:
        return stays("a request takes less than bfloat16 could gain", compared=0)
    candidate = in_bfloat16(network)
    rounded, _ = as_function(candidate)
    for _ in range(2):
        _seconds(rounded, batch)
    ratios: list[float] = []
    deadline = time.perf_counter() + _ROUND_SECONDS
    while len(ratios) < _ROUNDS and (len(ratios) < 3 or time.perf_counter() < deadline):
        ratios.append(_seconds(exact, batch) / _seconds(rounded, batch))
    facts: dict[str, Any] = {"speedup": round(statistics.median(ratios), 2), "compared": 0}
    if facts["speedup"] < GAIN:
        return stays(f"bfloat16 is not {GAIN} times as fast", **facts)
    tops: list[np.ndarray] = []
    deadline = time.perf_counter() + _COMPARE_SECONDS
    for start in range(0, len(images), batch_size):
        part = images[start : start + batch_size]
        if start < PICTURES or time.perf_counter() < deadline:
            tops.append(np.stack([answer(part)[0].numpy().argmax(1) for answer in (exact, rounded)]))
    first, second = np.concatenate(tops, axis=1)
    facts |= {"compared": len(first), "agreement": round(float(np.mean(first == second)), 4)}
    facts["classes"] = len(set(first.tolist()))
    if facts["agreement"] < AGREEMENT:
        return stays(f"bfloat16 does not leave {AGREEMENT:.1%} of the top classes", **facts)
    return candidate, {"precision": "bfloat16", **facts}


def _seconds(function: Callable[[tf.Tensor], list[tf.Tensor]], batch: tf.Tensor) -> float:
    start = time.perf_counter()
    function(batch)[0].numpy()
    return time.perf_counter() - start
