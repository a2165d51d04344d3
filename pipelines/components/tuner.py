"""Tuner: hyperparameters for Trainer, searched on the training and validation splits alone."""

import keras

from kcnn.config import Config
from kcnn.training.adaptation import adapt_config
from kcnn.training.network import build_network
from kcnn.training.tuning import tune
from kcnn.weights import load_weights
from pipelines.artifacts import Examples, HyperParameters, TransformGraph, TunerResults
from pipelines.engine.component import Output, component


@component(resumable=True)
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
    """Tries `trials` settings of `config` (JSON), of which the user has given none; takes up what an interrupted search
    left in its outputs.
    """
    summary = examples.summary()
    settings = adapt_config(Config.from_json(config), summary)
    data = examples.training_data(transform_graph.preprocessing())

    def build() -> keras.Model:
        network = build_network(settings, data.classes, data.preprocessing.image_size)
        if weights is not None:
            load_weights(network, weights)
        return network

    best_hyperparameters.write(tune(settings, data, summary, build, tuner_results.path, trials=trials))
