"""Tuner: hyperparameters for Trainer, searched on the training and validation splits alone."""

import dataclasses

import keras

from kcnn.config import Config
from kcnn.training.network import starting_network
from kcnn.training.suit import suit
from kcnn.training.tuning import tune
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.transform import TransformGraph
from pipelines.artifacts.tuning import HyperParameters, TunerResults
from pipelines.engine.component import Output, component
from pipelines.entries import network_entries
from pipelines.training_data import training_data


@component(resumable=True, entries=lambda config, **_: network_entries(Config.from_json(config).model))
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
    settings, summary = Config.from_json(config), examples.summary()
    settings = dataclasses.replace(settings, phases=tuple(suit(phase, summary) for phase in settings.phases))
    data = training_data(examples, transform_graph.preprocessing())

    def build() -> keras.Model:
        return starting_network(settings, data.classes, data.preprocessing.image_size[0], weights)[0]

    best_hyperparameters.write(tune(settings, data, summary, build, tuner_results.path, trials=trials))
