"""Calibrated probabilities: one temperature for all logits."""

from collections.abc import Sequence

import keras
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from kcnn.data.input_pipeline.batches import evaluation_batches
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.nn.inference import inference_function

_RANGE = (0.05, 20.0)  # the temperatures to choose from
_BATCH = 64


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Fit the temperature that logits are divided by, so that softmax gives the probability that an answer is right.

    It minimises the mean negative log-likelihood (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    section 4.2) with a standard normal prior on the temperature's logarithm. Where all images are answered correctly,
    the likelihood alone would make every answer certain. Top classes do not change.

    Args:
        logits: float [N, C] of images that were not trained on.
        labels: int [N], the true classes.

    Returns:
        the temperature, 0.05 to 20; 1 with N = 0.
    """
    if not len(labels):
        return 1.0
    logits = np.asarray(logits, np.float64)
    rows = np.arange(len(labels))

    def loss(logarithm: float) -> float:
        likelihood = log_softmax(logits / np.exp(logarithm), axis=1)[rows, labels]
        return -likelihood.mean() + logarithm**2 / (2 * len(labels))

    return float(np.exp(minimize_scalar(loss, bounds=np.log(_RANGE), method="bounded").x))


def validation_logits(
    model: keras.Model, paths: Sequence[str], preprocessing: Preprocessing
) -> tuple[np.ndarray, np.ndarray]:
    """Return a network's logits for all examples, and their classes.

    Args:
        model: images → logits, one output.
        paths: shard files.
        preprocessing: the deterministic transform of evaluation.

    Returns:
        logits float32 [N, C], and true classes int [N].
    """
    classes = model.output_shape[-1]
    logits, labels = [np.zeros((0, classes), np.float32)], [np.zeros(0, np.int64)]
    if not paths:
        return logits[0], labels[0]
    forward = inference_function(model)
    for images, one_hot in evaluation_batches(
        paths, num_classes=classes, batch_size=_BATCH, preprocessing=preprocessing
    ):
        logits.append(forward(images).numpy())
        labels.append(one_hot.numpy().argmax(axis=1))
    return np.concatenate(logits), np.concatenate(labels)
