"""Trainer: examples become a network and its export."""

import dataclasses
import json
import math
import shutil
import time

import keras

from kcnn.config import Config, Phase
from kcnn.data.ingest import Summary
from kcnn.data.transform import Preprocessing
from kcnn.models.factory import create_model, model_spec
from kcnn.models.spec import ModelSpec
from kcnn.serving.export import export_classifier
from kcnn.training.auxiliary import main_output
from kcnn.training.trainer import Data, train
from kcnn.weights import load_weights
from pipelines.artifacts import Examples, Model
from pipelines.component import Output, component


def choose_image_size(spec: ModelSpec, median_side: int) -> int:
    """Twice the data's own size, in steps of 32 from 64 on, between what the network takes and what it was designed
    for.

    A network that halves the image five times makes a single position of 32 pixels; beyond the designed size there is
    cost and little gain.
    """
    return max(spec.min_size, min(spec.input_size, max(64, 32 * math.ceil(2 * median_side / 32))))


def suit(phase: Phase, summary: Summary) -> Phase:
    """`phase` without what would change the class of this data's images.

    Letters and digits are not mirrored. Small images (to 64 pixels) hold little but their object: at least 70% of
    their area stays, about what the usual padding by 4 of 32 pixels leaves of CIFAR's.
    """
    augmentations = tuple(name for name in phase.augmentations if name != "flip" or summary.mirror)
    crop_scale = phase.crop_scale
    if crop_scale and summary.median_side <= 64:
        crop_scale = (max(0.7, crop_scale[0]), crop_scale[1])
    return dataclasses.replace(phase, augmentations=augmentations, crop_scale=crop_scale)


@component(resumable=True, ignored=("resume",))
def trainer(
    config: str, weights: str | None, weights_digest: str, resume: bool, examples: Examples, model: Output[Model]
) -> None:
    """Trains what `config` (JSON) says from `weights`; `weights_digest` tells two files of one name apart."""
    settings, summary = Config.from_json(config), examples.summary()
    spec = model_spec(settings.model)
    size = settings.image_size or choose_image_size(spec, summary.median_side)
    # Of photos the centre is evaluated, as is usual; of images smaller than the network's input everything is needed.
    preprocessing = Preprocessing((size, size), crop_fraction=0.875 if size < summary.median_side else 1.0)
    settings = dataclasses.replace(settings, phases=tuple(suit(phase, summary) for phase in settings.phases))
    loaded: list[str] = []

    def build(dtype: str, load: bool) -> keras.Model:
        keras.config.set_dtype_policy(dtype)
        network = create_model(settings.model, len(summary.labels), size, **settings.design)
        if load and weights is not None:
            loaded.append(str(load_weights(network, weights)))
        return network

    data = Data(
        train=examples.shards("train"),
        val=examples.shards("val"),
        train_count=summary.total("train"),
        val_count=summary.total("val"),
        classes=len(summary.labels),
        mean_bytes=summary.mean_bytes,
        preprocessing=preprocessing,
    )
    print(f"Training {spec.name} at {size}x{size} on {data.train_count} images of {data.classes} classes")
    start = time.monotonic()
    progress = train(settings, data, lambda: build(settings.dtype, load=True), model.path, resume=resume)
    seconds = time.monotonic() - start

    print("Exporting")
    network = main_output(build("float32", load=False))
    load_weights(network, model.path / "best.safetensors")
    shutil.rmtree(model.serving, ignore_errors=True)  # of an execution that was interrupted after this
    export_classifier(network, model.serving, summary.labels, preprocessing)
    (model.path / "config.json").write_text(settings.to_json())
    record = {
        "weights": weights,
        "weights_loaded": loaded,
        "preprocessing": dataclasses.asdict(preprocessing),
        "seconds": round(seconds, 1),
        "best": progress.best,
        "history": progress.history,
    }
    (model.path / "training.json").write_text(json.dumps(record, indent=2))
    for leftover in [model.path / "state.safetensors", *model.path.glob("features-*.npy")]:
        leftover.unlink(missing_ok=True)
    (model.path / "best.safetensors").rename(model.path / "weights.safetensors")
