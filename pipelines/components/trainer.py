"""Trainer: examples become a network."""

import dataclasses

import keras

from kcnn.config import Config
from kcnn.data.input_pipeline.augmentation_texts import split_augmentations
from kcnn.models.spec import model_spec
from kcnn.terminal import print_lines
from kcnn.training.adaptation import adapt_config
from kcnn.training.hyperparameters import replace_hyperparameters
from kcnn.training.network import build_network
from kcnn.training.trainer import train
from kcnn.training.trials import describe_values
from kcnn.weights import describe_weights, load_weights
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.training import ModelRun
from pipelines.artifacts.transform import TransformGraph
from pipelines.artifacts.tuning import HyperParameters
from pipelines.engine.component import Output, component
from pipelines.entries import Entries, training_entries
from pipelines.training_data import training_data


def _entries(config: str, hyperparameters: HyperParameters | None = None, **_: object) -> Entries:
    tuned = hyperparameters.values().get("augment", "") if hyperparameters is not None else ""
    return training_entries(Config.from_json(config), split_augmentations(tuned))


@component(resumable=True, entries=_entries)
def trainer(
    config: str,
    weights: str | None,
    weights_digest: str,
    examples: Examples,
    transform_graph: TransformGraph,
    model_run: Output[ModelRun],
    hyperparameters: HyperParameters | None = None,
) -> None:
    """Train a network.

    Args:
        config: the Config, as JSON.
        weights: what the network starts from, as `load_weights` takes it; None for random ones.
        weights_digest: of the file that `weights` names, which tells it from others of the same name.
        examples: what to train on.
        transform_graph: how images are brought to the network.
        model_run: what is made; an interrupted training goes on from what is in it.
        hyperparameters: values that go before those of the Config.
    """
    settings, summary = Config.from_json(config), examples.summary()
    spec = model_spec(settings.model)
    preprocessing = transform_graph.preprocessing()
    height, width = preprocessing.image_size
    settings = adapt_config(settings, summary, preprocessing.image_size)
    if hyperparameters is not None:
        settings = replace_hyperparameters(settings, hyperparameters.values())
        print_lines(f"Tuned: {describe_values(hyperparameters.values())}")
    loaded: list[str] = []

    def build() -> keras.Model:
        network = build_network(settings, len(summary.labels), preprocessing.image_size)
        if weights is not None:
            loaded.append(str(load_weights(network, weights, offline=settings.offline)))
        return network

    data = training_data(examples, preprocessing)
    print_lines(f"Training {spec.name} at {width}x{height} on {data.train_count} images of {data.classes} classes")
    origin = describe_weights(weights, spec.name)
    progress = train(settings, data, build, model_run.path)

    training = {
        "weights": weights,
        "weights_loaded": loaded,
        "weights_origin": origin,
        "preprocessing": dataclasses.asdict(preprocessing),
        "preprocess": progress.preprocess,
        "seconds": round(progress.seconds, 1),
        "best": progress.best,
        "history": progress.history,
        "phases": progress.phases,
    }
    model_run.write(settings, training)
