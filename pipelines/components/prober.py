"""Prober: what frozen backbones and their stages are worth on examples. It never reads the test split."""

import dataclasses
import gc
from collections.abc import Sequence

import keras

from kcnn.data.ingestion.summary import check_trainable
from kcnn.data.input_pipeline.augmentations import AUGMENTATIONS
from kcnn.data.input_pipeline.batches import evaluation_batches
from kcnn.evaluation.metrics import proportion
from kcnn.models.factory import create_model
from kcnn.models.spec import MODELS, model_spec
from kcnn.terminal import print_lines
from kcnn.training.adaptation import choose_preprocessing
from kcnn.training.auxiliary import without_auxiliary
from kcnn.training.probing import MOST_IMAGES, plot_probes, probe_stages
from kcnn.weights import load_weights
from kcnn.weights.torch_names import TORCH_NAMES
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.probing import ProbeResults
from pipelines.engine.component import Output, component
from pipelines.entries import Entries

_BATCH = 32


def _entries(models: Sequence[Sequence[str]], **_: object) -> Entries:
    names = [name for name, *_ in models]
    families = {model_spec(name).family for name in names}
    torch_names = [family for family in sorted(families) if family in TORCH_NAMES]
    return {MODELS: names, TORCH_NAMES: torch_names, AUGMENTATIONS: []}


@component(entries=_entries)
def prober(
    models: Sequence[Sequence[str]],
    image_size: int | None,
    examples: Examples,
    results: Output[ProbeResults],
) -> None:
    """Solve a head on the frozen features of each stage of each model, and judge it by cross-validation.

    Args:
        models: name, weights as `load_weights` takes them, and the digest of their file, of each.
        image_size: height and width in pixels; None to choose by the images and the model.
        examples: the training and the validation split are read.
        results: what is made.
    """
    summary = examples.summary()
    check_trainable(summary)
    shards = [*examples.shards("train"), *examples.shards("val")]
    count = min(MOST_IMAGES, summary.total("train") + summary.total("val"))
    rows = []
    for name, weights, _ in models:
        preprocessing = choose_preprocessing(model_spec(name), summary, image_size, weights)
        network = without_auxiliary(create_model(name, len(summary.labels), preprocessing.image_size))
        load_weights(network, weights)
        batches = evaluation_batches(
            shards, num_classes=len(summary.labels), batch_size=_BATCH, preprocessing=preprocessing
        )
        first = batches.unbatch().take(count).batch(_BATCH)
        height, width = preprocessing.image_size
        print_lines(
            f"Probing {name} ({weights}) at {width}x{height} on {count} images of {len(summary.labels)} classes"
        )
        features = results.path / "features.npy"
        for found in probe_stages(network, first, count, features):
            interval = proportion(found.right, found.judged) or {"value": 0.0, "low": 0.0, "high": 1.0}
            row = dataclasses.asdict(found)
            del row["right"]
            rows.append(
                {
                    "model": name,
                    "weights": weights,
                    "image_size": height,
                    "accuracy": interval["value"],
                    "low": interval["low"],
                    "high": interval["high"],
                    **row,
                    "megabytes": round(found.params * 4 / 1e6, 2),
                }
            )
        features.unlink()
        keras.backend.clear_session()
        gc.collect()
    results.write(rows)
    plot_probes(results.plot, rows)
