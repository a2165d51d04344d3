"""RateFinder: the learning rate that suits a training, found on its training images. It reads no others."""

import keras

from kcnn.config import Config
from kcnn.data.ingestion.summary import check_trainable
from kcnn.models.spec import model_spec
from kcnn.training.adaptation import adapt_config, choose_preprocessing
from kcnn.training.network import build_network
from kcnn.training.rate_finder import find_rate, plot_rates
from kcnn.weights import load_weights
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.rates import FoundRate
from pipelines.engine.component import Output, component
from pipelines.entries import training_entries
from pipelines.training_data import training_data


@component(entries=lambda config, **_: training_entries(Config.from_json(config)))
def rate_finder(
    config: str,
    weights: str | None,
    weights_digest: str,
    steps: int,
    examples: Examples,
    found: Output[FoundRate],
) -> None:
    """Train for some steps at a rising rate, and suggest a rate. The trained weights are thrown away.

    Args:
        config: the Config, as JSON.
        weights: what the network starts from, as `load_weights` takes it; None for random ones.
        weights_digest: of the file that `weights` names, which tells it from others of the same name.
        steps: of the rise.
        examples: what to train on.
        found: what is made.
    """
    settings, summary = Config.from_json(config), examples.summary()
    check_trainable(summary)
    preprocessing = choose_preprocessing(model_spec(settings.model), summary, settings.image_size, weights)
    settings = adapt_config(settings, summary, preprocessing.image_size)

    def build() -> keras.Model:
        network = build_network(settings, len(summary.labels), preprocessing.image_size)
        if weights is not None:
            load_weights(network, weights, offline=settings.offline)
        return network

    curve = find_rate(settings, training_data(examples, preprocessing), build, found.path / "work", steps=steps)
    found.write(curve)
    plot_rates(found.plot, curve)
