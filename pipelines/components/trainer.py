"""Trainer: examples become a network and its export."""

import dataclasses
import itertools
import json
import shutil
import time

import keras

from kcnn.config import Config
from kcnn.data import examples as records
from kcnn.evaluation.calibration import fit_temperature, validation_logits
from kcnn.models.factory import model_spec
from kcnn.progress import clock
from kcnn.serving.export import SAMPLES, export_classifier
from kcnn.training.auxiliary import main_output
from kcnn.training.hyperparameters import with_values
from kcnn.training.network import starting_network
from kcnn.training.suit import suit
from kcnn.training.trainer import train
from kcnn.training.trials import in_words
from kcnn.weights import load_weights
from pipelines.artifacts import Examples, HyperParameters, Model, TransformGraph
from pipelines.component import Output, component


@component(resumable=True, ignored=("resume",))
def trainer(
    config: str,
    weights: str | None,
    weights_digest: str,
    optimize_for: str,
    resume: bool,
    examples: Examples,
    transform_graph: TransformGraph,
    model: Output[Model],
    hyperparameters: HyperParameters | None = None,
) -> None:
    """Trains what `config` (JSON) says, with the hyperparameters where there are any, from `weights`; `weights_digest`
    tells two files of one name apart. Calibrates it on the validation images, and exports it `optimize_for` a purpose.
    """
    settings, summary = Config.from_json(config), examples.summary()
    spec = model_spec(settings.model)
    preprocessing = transform_graph.preprocessing()
    height, width = preprocessing.image_size
    settings = dataclasses.replace(settings, phases=tuple(suit(phase, summary) for phase in settings.phases))
    if hyperparameters is not None:
        settings = with_values(settings, hyperparameters.values())
        print(f"Tuned: {in_words(hyperparameters.values())}")
    loaded: list[str] = []

    def build() -> keras.Model:
        network, told = starting_network(settings, len(summary.labels), height, weights)
        loaded.extend(filter(None, [told]))
        return network

    data = examples.training_data(preprocessing)
    print(f"Training {spec.name} at {width}x{height} on {data.train_count} images of {data.classes} classes")
    start = time.monotonic()
    progress = train(settings, data, build, model.path, resume=resume)
    seconds = time.monotonic() - start

    with clock("Exporting"):
        in_float32 = dataclasses.replace(settings, dtype="float32")
        network = main_output(starting_network(in_float32, len(summary.labels), height, weights=None)[0])
        load_weights(network, model.path / "best.safetensors")
        shutil.rmtree(model.serving, ignore_errors=True)  # of an execution that was interrupted after this
        temperature = fit_temperature(*validation_logits(network, data.val, preprocessing))
        serialized = itertools.islice(records.read(data.val or data.train).as_numpy_iterator(), SAMPLES)
        exported = export_classifier(
            network,
            model.serving,
            summary.labels,
            preprocessing,
            optimize_for=optimize_for,
            temperature=temperature,
            samples=[records.parse(record)["encoded"].numpy() for record in serialized],
            run={"model": spec.name, "config": settings.to_dict(), "weights": weights},
        )
    (model.path / "config.json").write_text(settings.to_json())
    record = {
        "weights": weights,
        "weights_loaded": loaded,
        "preprocessing": dataclasses.asdict(preprocessing),
        "seconds": round(seconds, 1),
        "best": progress.best,
        "history": progress.history,
        "calibration": exported["calibration"],
        "export": exported["export"],
    }
    (model.path / "training.json").write_text(json.dumps(record, indent=2))
    for leftover in [model.path / "state.safetensors", *model.path.glob("features-*.npy")]:
        leftover.unlink(missing_ok=True)
    (model.path / "best.safetensors").rename(model.path / "weights.safetensors")
