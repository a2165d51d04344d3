"""Tuner: hyperparameters for Trainer, searched on the training and validation splits alone."""

import keras

from kcnn.config import Config
from kcnn.data.input_pipeline.augmentations import AUGMENTATIONS
from kcnn.training.adaptation import adapt_config
from kcnn.training.network import build_network
from kcnn.training.tuning import tune
from kcnn.weights import load_weights
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.transform import TransformGraph
from pipelines.artifacts.tuning import HyperParameters, TunerResults
from pipelines.engine.component import Output, component
from pipelines.entries import training_entries
from pipelines.training_data import training_data


@component(
    resumable=True, entries=lambda config, **_: training_entries(Config.from_json(config), AUGMENTATIONS.names())
)
def tuner(
    config: str,
    weights: str | None,
    weights_digest: str,
    trials: int,
    examples: Examples,
    transform_graph: TransformGraph,
    best_hyperparameters: Output[HyperParameters],
    tuner_results: Output[TunerResults],
) -> None:
    """Search values for the hyperparameters that the user has not given.

    Args:
        config: the Config, as JSON.
        weights: what the networks start from, as `load_weights` takes it; None for random ones.
        weights_digest: of the file that `weights` names, which tells it from others of the same name.
        trials: how many settings to try.
        examples: what to train on.
        transform_graph: how images are brought to the network.
        best_hyperparameters: what is made.
        tuner_results: what is made; an interrupted search goes on from what is in it.
    """
    summary = examples.summary()
    preprocessing = transform_graph.preprocessing()
    settings = adapt_config(Config.from_json(config), summary, preprocessing.image_size)
    data = training_data(examples, preprocessing)

    def build() -> keras.Model:
        network = build_network(settings, data.classes, data.preprocessing.image_size)
        if weights is not None:
            load_weights(network, weights, offline=settings.offline)
        return network

    best_hyperparameters.write(tune(settings, data, summary, build, tuner_results.path, trials=trials))
