"""Trainer: examples become a network."""

import dataclasses
import json

import keras

from kcnn.config import Config
from kcnn.models.spec import model_spec
from kcnn.training.adaptation import adapt_config
from kcnn.training.hyperparameters import replace_hyperparameters
from kcnn.training.network import build_network
from kcnn.training.trainer import train
from kcnn.training.trials import describe_values
from kcnn.weights import load_weights
from pipelines.artifacts import Examples, HyperParameters, ModelRun, TransformGraph
from pipelines.engine.component import Output, component


@component(resumable=True)
def trainer(
    config: str,
    weights: str | None,
    weights_digest: str,
    examples: Examples,
    transform_graph: TransformGraph,
    model_run: Output[ModelRun],
    hyperparameters: HyperParameters | None = None,
) -> None:
    """Trains what `config` (JSON) says, with the hyperparameters where there are any, from `weights`; `weights_digest`
    tells two files of one name apart.
    """
    settings, summary = Config.from_json(config), examples.summary()
    spec = model_spec(settings.model)
    preprocessing = transform_graph.preprocessing()
    height, width = preprocessing.image_size
    settings = adapt_config(settings, summary)
    if hyperparameters is not None:
        settings = replace_hyperparameters(settings, hyperparameters.values())
        print(f"Tuned: {describe_values(hyperparameters.values())}")
    loaded: list[str] = []

    def build() -> keras.Model:
        network = build_network(settings, len(summary.labels), preprocessing.image_size)
        if weights is not None:
            loaded.append(str(load_weights(network, weights)))
        return network

    data = examples.training_data(preprocessing)
    print(f"Training {spec.name} at {width}x{height} on {data.train_count} images of {data.classes} classes")
    progress = train(settings, data, build, model_run.path)

    training = {
        "weights": weights,
        "weights_loaded": loaded,
        "preprocessing": dataclasses.asdict(preprocessing),
        "seconds": round(progress.seconds, 1),
        "best": progress.best,
        "history": progress.history,
    }
    (model_run.path / "config.json").write_text(settings.to_json())
    (model_run.path / "training.json").write_text(json.dumps(training, indent=2))
    for leftover in [model_run.path / "state.safetensors", *model_run.path.glob("features-*.npy")]:
        leftover.unlink(missing_ok=True)
    (model_run.path / "best.safetensors").rename(model_run.weights)
