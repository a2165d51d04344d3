"""The network that a training starts from."""

import keras

from kcnn.config import Config
from kcnn.models.factory import create_model
from kcnn.weights import load_weights


def starting_network(
    config: Config, classes: int, image_size: int, weights: str | None
) -> tuple[keras.Model, str | None]:
    """The network that `config` names, in its dtype policy, which becomes Keras' own, with `weights` (None for random
    ones); and what was loaded of them, in words.
    """
    keras.config.set_dtype_policy(config.dtype)
    network = create_model(config.model, classes, image_size, **config.design)
    return network, None if weights is None else str(load_weights(network, weights))
