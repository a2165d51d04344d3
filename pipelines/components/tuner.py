"""Tuner: hyperparameters for Trainer, searched on the training and validation splits alone."""

import dataclasses

import keras

from kcnn.config import Config
from kcnn.training.network import starting_network
from kcnn.training.suit import suit
from kcnn.training.tuning import tune
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
    settings, summary = Config.from_json(config), examples.summary()
    settings = dataclasses.replace(settings, phases=tuple(suit(phase, summary) for phase in settings.phases))
    data = examples.training_data(transform_graph.preprocessing())

    def build() -> keras.Model:
        return starting_network(settings, data.classes, data.preprocessing.image_size[0], weights)[0]

    best_hyperparameters.write(tune(settings, data, summary, build, tuner_results.path, trials=trials))
