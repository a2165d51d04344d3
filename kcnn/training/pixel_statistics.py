"""Preprocessing that is fitted: what the training images' pixels are like goes into a network's first layers.

One pass over the images, in float64, in memory that does not grow with their number.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kcnn.nn.inference import inference_function
from kcnn.nn.pixel_layers import ChannelDeviation, ChannelMean, MeanImage, PCAWhitening, ZCAWhitening
from kcnn.progress import bar
from kcnn.terminal import print_lines

# What is added to the variances before whitening, over their mean, so that what hardly varies is not blown up to noise.
# With pixels of unit variance, 0.1 is what Coates & Ng ("Learning Feature Representations with K-means", 2012, section
# 2.1) take for patches of 8 pixels, and Goodfellow et al. ("Maxout Networks", ICML 2013) for whole images of CIFAR-10.
EPSILON = 0.1
_BLOCK_BYTES = 2**25  # of the images that are added at once


@dataclasses.dataclass
class PixelStatistics:
    """Moments of images, each a row of D = H * W * C numbers.

    Attributes:
        shape: height, width, channels.
        count: the images so far.
        mean: float64 [D].
        scatter: sum of the squared differences from the mean, float64 [D], or of their products, [D, D].
    """

    shape: tuple[int, int, int]
    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def empty(cls, shape: tuple[int, int, int], *, products: bool) -> "PixelStatistics":
        """Return those of no image, with or without the products."""
        numbers = int(np.prod(shape))
        return cls(shape, 0, np.zeros(numbers), np.zeros((numbers, numbers) if products else numbers))

    def add(self, images: np.ndarray) -> None:
        """Count further images [N, H, W, C].

        Source: Chan, Golub & LeVeque, "Algorithms for Computing the Sample Variance", The American Statistician 37,
        1983: two samples are merged without a difference of large sums.
        """
        rows = images.reshape(len(images), -1).astype(np.float64)
        mean, count = rows.mean(axis=0), self.count + len(rows)
        apart = mean - self.mean
        rows -= mean
        # As one more row, the distance of the two means is of one sum with the others.
        rows = np.concatenate([rows, np.sqrt(self.count * len(images) / count) * apart[None]])
        self.scatter += rows.T @ rows if self.scatter.ndim == 2 else np.square(rows).sum(axis=0)
        self.mean += apart * len(images) / count
        self.count = count

    @property
    def channel_mean(self) -> np.ndarray:
        """Over all positions, float64 [C]."""
        return self.mean.reshape(self.shape).mean(axis=(0, 1))

    @property
    def channel_deviation(self) -> np.ndarray:
        """Over all positions, float64 [C]; 1 where nothing varies."""
        squares = np.diagonal(self.scatter) if self.scatter.ndim == 2 else self.scatter
        variance = squares.reshape(self.shape) / self.count
        variance = variance + np.square(self.mean.reshape(self.shape) - self.channel_mean)
        deviation = np.sqrt(variance.mean(axis=(0, 1)))
        return np.where(deviation > 0, deviation, 1.0)

    def principal_components(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the variances in falling order, float64 [D], and their directions, the columns of float64 [D, D].

        The largest number of a direction is positive.
        """
        variances, directions = np.linalg.eigh(self.scatter / max(self.count - 1, 1))
        variances, directions = np.maximum(variances[::-1], 0.0), directions[:, ::-1]
        largest = np.abs(directions).argmax(axis=0)
        return variances, directions * np.sign(directions[largest, np.arange(len(largest))])


def pca_matrix(statistics: PixelStatistics, epsilon: float = EPSILON) -> np.ndarray:
    """Return the matrix [D, D] that turns centred rows into principal components of unit variance.

    Args:
        statistics: with products.
        epsilon: over the mean of the variances, what is added to each. Variances become v / (v + added).
    """
    variances, directions = statistics.principal_components()
    return directions / np.sqrt(variances + max(epsilon * variances.mean(), np.finfo(np.float32).tiny))


def zca_matrix(statistics: PixelStatistics, epsilon: float = EPSILON) -> np.ndarray:
    """Return the same, turned back to the places of the pixels: symmetric [D, D]."""
    _, directions = statistics.principal_components()
    return pca_matrix(statistics, epsilon) @ directions.T


# Layer → its weight
_WEIGHTS: dict[type[keras.layers.Layer], Callable[[PixelStatistics], np.ndarray]] = {
    MeanImage: lambda statistics: statistics.mean.reshape(statistics.shape),
    ChannelMean: lambda statistics: statistics.channel_mean,
    ChannelDeviation: lambda statistics: statistics.channel_deviation,
    PCAWhitening: pca_matrix,
    ZCAWhitening: zca_matrix,
}


def fitted_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers of a network whose weights are statistics of the training images, in their order."""
    return [layer for layer in model.layers if type(layer) in _WEIGHTS]


def fit_preprocessing(model: keras.Model, batches: tf.data.Dataset, count: int) -> dict[str, Any] | None:
    """Give the layers that are fitted what they take from the images, unless loaded weights have brought it.

    Args:
        model: of `create_model`.
        batches: images float32 [N, H, W, 3] of the model's size, as it gets them in evaluation.
        count: of the images.

    Returns:
        facts for the record, JSON-able: `layers`, `images`, `mean` and `deviation` of each channel, `epsilon` of
        whitening, `seconds`. None where nothing was fitted.
    """
    layers = fitted_layers(model)
    if not layers or keras.ops.convert_to_numpy(layers[0].mean).any():  # a mean of zeros is that of no images
        return None
    began = time.monotonic()
    whitened = any(isinstance(layer, PCAWhitening | ZCAWhitening) for layer in layers)
    statistics = PixelStatistics.empty(tuple(layers[0].input.shape[1:]), products=whitened)
    before = inference_function(keras.Model(model.input, layers[0].input))
    rows = max(1, _BLOCK_BYTES // statistics.mean.nbytes)
    with bar(total=count, description="Pixel statistics", unit="img") as progress:
        for images in batches.unbatch().batch(rows):
            statistics.add(before(images).numpy())
            progress.update(len(images))
    for layer in layers:
        layer.weights[0].assign(_WEIGHTS[type(layer)](statistics))
    facts = {
        "layers": [layer.name for layer in layers],
        "images": statistics.count,
        "mean": statistics.channel_mean.round(4).tolist(),
        "deviation": statistics.channel_deviation.round(4).tolist(),
        **({"epsilon": EPSILON} if whitened else {}),
        "seconds": round(time.monotonic() - began, 2),
    }
    what = " and ".join(layer.word for layer in layers)
    print_lines(f"Preprocessing: {what} of {statistics.count} training images, {facts['seconds']:.1f} s")
    return facts
