"""The networks of a run: the one that training starts from, and the trained one that answers."""

import os

import keras

from kcnn.config import Config
from kcnn.models.factory import create_model
from kcnn.nn.keras_settings import dtype_policy
from kcnn.training.auxiliary import without_auxiliary
from kcnn.weights import load_weights


def build_network(
    config: Config, classes: int, size: int | tuple[int, int] | None, dtype: str | None = None
) -> keras.Model:
    """Build the network of `config` with random weights, its auxiliary classifiers included.

    Args:
        config: names the architecture, its design and its preprocessing.
        classes: outputs.
        size: height and width in pixels, or one number for both; None for the paper's.
        dtype: the Keras dtype policy of the layers; None for the one that `config` trains in. The global policy stays.

    Returns:
        images [N, H, W, 3] → float32 logits [N, classes]; with auxiliary classifiers → a list of them, theirs last.

    Raises:
        UserError: the architecture does not take the design or the size.
    """
    with dtype_policy(dtype or config.dtype):
        return create_model(
            config.model, classes, size, preprocessing=config.preprocess, channels=config.channels, **config.design
        )


def inference_network(
    config: Config, classes: int, size: int | tuple[int, int], weights: str | os.PathLike[str]
) -> keras.Model:
    """Build the network of `config` as it answers: in float32, with weights, without auxiliary classifiers.

    Args:
        config: names the architecture and its design.
        classes: outputs.
        size: height and width in pixels, or one number for both.
        weights: a file of trained weights, or what else `kcnn.load_weights` takes.

    Returns:
        images [N, H, W, 3] → float32 logits [N, classes].

    Raises:
        UserError: the weights cannot be had, or are for another network.
    """
    network = build_network(config, classes, size, "float32")
    load_weights(network, weights, offline=config.offline)
    return without_auxiliary(network)
