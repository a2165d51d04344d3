"""Pretrainer: examples become a backbone for others to start from."""

import dataclasses
import datetime
import functools
import itertools
import os
import platform
from typing import Any

import keras
import tensorflow as tf

from kcnn.config import Config
from kcnn.data.ingestion.summary import check_trainable
from kcnn.data.input_pipeline.objectives import OBJECTIVES
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.models.spec import model_spec
from kcnn.terminal import print_lines
from kcnn.training.adaptation import adapt_config, choose_image_size
from kcnn.training.distillation import load_teacher, picture_crops
from kcnn.training.network import build_network, inference_network
from kcnn.training.trainer import train
from kcnn.weights import describe_weights, load_weights, save_backbone
from kcnn.weights.inheritance import inherit_weights
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.training import Backbone
from pipelines.engine.component import Output, component
from pipelines.entries import pretraining_entries
from pipelines.training_data import training_data

_INHERITING = 32  # batches of crops on which weights are inherited, as many again of augmented ones


@component(
    resumable=True,
    ignored=("record",),
    entries=lambda config, **_: pretraining_entries(Config.from_json(config)),
)
def pretrainer(
    config: str,
    weights: str | None,
    weights_digest: str,
    teacher_digest: str,
    record: dict[str, Any],
    examples: Examples,
    backbone: Output[Backbone],
) -> None:
    """Train a network, and keep all but the head.

    Args:
        config: the Config, as JSON.
        weights: what the network starts from, as `load_weights` takes it, or "teacher"; None for random ones.
        weights_digest: of the file that `weights` names, which tells it from others of the same name.
        teacher_digest: the same of the teacher's weights.
        record: what only the run knows of where the weights come from: command, commit, fingerprint of the data.
        examples: what to train on.
        backbone: what is made; an interrupted training goes on from what is in it.
    """
    settings, summary = Config.from_json(config), examples.summary()
    check_trainable(summary)
    spec = model_spec(settings.model)
    size = settings.image_size or choose_image_size(spec, summary.median_side)
    settings = adapt_config(settings, summary, (size, size))
    data = training_data(examples, Preprocessing((size, size), crop_fraction=1.0))
    data = dataclasses.replace(data, classes=OBJECTIVES.get(settings.objective).classes or data.classes)

    @functools.cache
    def build_teacher() -> keras.Model:
        return load_teacher(settings, data.classes, size)

    def build() -> keras.Model:
        network = build_network(settings, data.classes, size)
        if weights == "teacher":
            count = _INHERITING * settings.batch_size
            crops = [
                picture_crops(settings, data.training_shards, size, count, range(1), augmented=augmented)
                for augmented in (False, True)
            ]
            inherit_weights(network, build_teacher(), itertools.chain(*crops))
        elif weights is not None:
            load_weights(network, weights, offline=settings.offline)
        return network

    aim = f"to answer as {settings.teacher}" if settings.teacher else f"to tell {data.classes} classes"
    print_lines(f"Pre-training {spec.name} at {size}x{size} on {data.train_count} images {aim}")
    origin = describe_weights(weights, spec.name)
    progress = train(settings, data, build, backbone.path, build_teacher=build_teacher if settings.teacher else None)
    save_backbone(inference_network(settings, data.classes, size, backbone.best), backbone.weights)
    accuracy = progress.phases[-1]["accuracy"]
    gpus = tf.config.list_physical_devices("GPU")
    provenance = {
        **record,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": spec.name,
        "images": data.train_count,
        "image_size": size,
        "classes": data.classes,
        "objective": settings.objective,
        "seed": settings.seed,
        "config": settings.to_dict(),
        "weights_origin": origin,
        "teacher": settings.teacher and _describe_teacher(settings, teacher_digest),
        "hardware": {"cores": os.cpu_count(), "machine": platform.machine(), "gpus": len(gpus)},
        "hours": round(progress.seconds / 3600, 4),
        "validation_accuracy": None if accuracy is None else round(accuracy, 4),
        "history": progress.history,
    }
    backbone.write_provenance(provenance)


def _describe_teacher(settings: Config, digest: str) -> dict[str, Any]:
    """Return what is to be known of the teacher of a distillation, JSON-able."""
    name = model_spec(str(settings.teacher)).name
    origin = describe_weights(settings.teacher_weights, name)
    return {"model": name, "weights": settings.teacher_weights, "sha256": digest, "weights_origin": origin}
