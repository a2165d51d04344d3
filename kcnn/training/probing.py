"""What a network's frozen stages are worth on a user's images: a head solved on the features of each, and its cost."""

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kcnn.models.spec import stages
from kcnn.nn.inference import inference_function
from kcnn.training.freezing import compute_features
from kcnn.training.linear_head import solve_head

MOST_IMAGES = 2000  # beyond them an interval is narrow enough to choose by
_WARM_UP, _CALLS = 3, 15


@dataclasses.dataclass(frozen=True)
class StageProbe:
    """A network up to the end of one of its stages, with a solved head on the stage's mean features.

    Attributes:
        stage: the first word of its layers' names; the last stage is the whole backbone.
        features: of an image.
        judged: images that were left out, each in one fold.
        right: those of them that were answered right.
        log_loss: their mean, in nats.
        latency_ms: of one image on this machine, the median.
        params: of the network up to there, with the head.
    """

    stage: str
    features: int
    judged: int
    right: int
    log_loss: float
    latency_ms: float
    params: int


def stage_outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """Return the mean over all positions of what the last layer of each stage gives: stage → float [N, D]."""
    last = {layer.name.split("_")[0]: layer.output for layer in model.layers if "_" in layer.name}
    found = {}
    for stage in stages(model):
        if stage not in ("preprocess", "head"):
            output = last[stage]
            found[stage] = keras.ops.mean(output, axis=(1, 2)) if len(output.shape) == 4 else output
    return found


def probe_stages(
    model: keras.Model, batches: tf.data.Dataset, count: int, path: Path, seed: int = 0
) -> list[StageProbe]:
    """Probe the stages of a network. Each image goes through it once, for all stages and all folds.

    Args:
        model: of `create_model`, with its weights.
        batches: (images, one-hot labels), each image once.
        count: images in `batches`.
        path: a .npy file to keep the features in.
        seed: of the folds.

    Returns:
        a row for each stage, from the first to the last.
    """
    outputs = stage_outputs(model)
    together = keras.Model(model.input, keras.ops.concatenate(list(outputs.values()), axis=-1))
    features, labels = compute_features(inference_function(together), batches, count, path)
    found, begin = [], 0
    for stage, output in outputs.items():
        end = begin + output.shape[-1]
        head = solve_head(np.ascontiguousarray(features[:, begin:end]), labels, seed=seed)
        part = keras.Model(model.input, output)
        found.append(
            StageProbe(
                stage,
                end - begin,
                head.judged,
                round((head.accuracy or 0.0) * head.judged),
                head.log_loss or 0.0,
                measure_latency(part),
                part.count_params() + (end - begin + 1) * labels.shape[1],
            )
        )
        begin = end
    return found


def measure_latency(network: keras.Model) -> float:
    """Return the median time in milliseconds that one image takes here."""
    forward = inference_function(network)
    image = tf.zeros((1, *network.input.shape[1:]))
    seconds = []
    for _ in range(_WARM_UP + _CALLS):
        began = time.perf_counter()
        forward(image).numpy()
        seconds.append(time.perf_counter() - began)
    return round(1000 * statistics.median(seconds[_WARM_UP:]), 2)


def plot_probes(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Draw accuracy with its interval against latency as a PNG, a line for each model through its stages.

    Args:
        path: the PNG.
        rows: `model`, `stage`, `accuracy`, `low`, `high`, `latency_ms`; of a model in the order of its stages.
    """
    figure = Figure(figsize=(8, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for model in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == model]
        latency = [row["latency_ms"] for row in own]
        accuracy = [row["accuracy"] for row in own]
        reach = [[row["accuracy"] - row["low"] for row in own], [row["high"] - row["accuracy"] for row in own]]
        drawn = axes.errorbar(latency, accuracy, reach, marker="o", markersize=4, capsize=2, linewidth=1, label=model)
        axes.plot(latency[-1:], accuracy[-1:], marker="D", markersize=9, color=drawn.lines[0].get_color())
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
    axes.set_xlabel("milliseconds an image, on this machine; the diamond is the whole backbone")
    axes.set_ylabel("accuracy of a head on frozen features, cross-validated, 95% interval")
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path)
