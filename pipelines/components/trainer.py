"""Trainer: examples become a network and its export."""

import dataclasses
import json
import shutil
import time

import keras

from kcnn.config import Config
from kcnn.data.transform import Preprocessing
from kcnn.models.factory import create_model, model_spec
from kcnn.serving.export import export_classifier
from kcnn.training.auxiliary import main_output
from kcnn.training.suit import image_size, suit
from kcnn.training.trainer import train
from kcnn.weights import load_weights
from pipelines.artifacts import Examples, Model
from pipelines.component import Output, component


@component(resumable=True, ignored=("resume",))
def trainer(
    config: str, weights: str | None, weights_digest: str, resume: bool, examples: Examples, model: Output[Model]
) -> None:
    """Trains what `config` (JSON) says from `weights`; `weights_digest` tells two files of one name apart."""
    settings, summary = Config.from_json(config), examples.summary()
    spec = model_spec(settings.model)
    size = settings.image_size or image_size(spec, 2 * summary.median_side)
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

    data = examples.training_data(preprocessing)
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
