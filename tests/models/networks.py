"""Helpers that the tests of networks share: networks at their smallest, random weights, images."""

import keras
import numpy as np
import pytest

import kcnn
from kcnn.models.spec import MODELS

SPECS = [MODELS.get(name) for name in MODELS]
SMALLEST = {spec.family: spec.name for spec in sorted(SPECS, key=lambda spec: -spec.params)}
# One for each of the usual kinds of blocks, for tests that build a network again, or trace it.
REPRESENTATIVE = (
    "lenet5",
    "googlenet.torch",
    "resnet18v2",
    "resnext50_32x4d",
    "seresnet18",
    "densenetbc100_12",
    "mobilenetv2_0.35.torch",
    "mobilenetv3small_0.5.timm",
    "shufflenetv2_0.5",
    "efficientnetb0.torch",
    "convnexttiny",
)


def by_default(names, chosen):
    """Return `names` as parameters, all but the chosen ones left to `-m slow`."""
    return [name if name in chosen else pytest.param(name, marks=pytest.mark.slow) for name in names]


def small(name, **design):
    """Build the architecture at its smallest, with few classes."""
    return kcnn.create_model(name, 5, MODELS.get(name).min_size, **design)


def randomize(model, seed):
    """Draw weights with which activations neither vanish nor explode, and moving statistics unlike the initial ones."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        for variable in layer.weights if not isinstance(layer, keras.layers.Normalization) else ():
            shape = variable.shape
            if "variance" in variable.name or variable.name == "gamma":
                value = rng.uniform(0.5, 1.5, shape)
            elif "kernel" in variable.name:
                depthwise = "depthwise" in variable.name or isinstance(layer, keras.layers.DepthwiseConv2D)
                fan_in = np.prod(shape[:2]) if depthwise else np.prod(shape[:-1])
                value = rng.normal(0, np.sqrt(2 / fan_in), shape)
            else:
                value = rng.normal(0, 0.1, shape)
            variable.assign(value)


def calibrate(model, inputs):
    """Set moving statistics to those of `inputs`.

    With any others activations grow from block to block, and rounding with them. Nothing is dropped meanwhile: what is
    left would be scaled up, and the statistics would be for larger activations than in inference.
    Variances much below a layer's mean one, of channels that hardly see these few images, are raised for that reason.
    """
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    drops = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    momenta, rates = [norm.momentum for norm in norms], [drop.rate for drop in drops]
    for norm in norms:
        norm.momentum = 0.0
    for drop in drops:
        drop.rate = 0.0
    model(inputs, training=True)
    for drop, rate in zip(drops, rates, strict=True):
        drop.rate = rate
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        variance = np.array(norm.moving_variance)
        norm.moving_variance.assign(np.maximum(variance, 0.2 * variance.mean()))


def images(model, count=2, seed=1):
    """Draw patches of 8x8 pixels, of the size that `model` takes: float32 [count, H, W, 3], 0-255.

    All places of pixel noise look alike to a deep layer, and what little differs drowns in rounding.
    """
    height, width = model.input_shape[1:3]
    patches = np.random.default_rng(seed).integers(0, 256, (count, -(-height // 8), -(-width // 8), 3))
    return patches.repeat(8, 1).repeat(8, 2)[:, :height, :width].astype(np.float32)


def answers_and_rounding(model, inputs):
    """Return a model's answers, [N, classes], and the most by which an equal model may differ from them.

    In some deep networks the last bit of the pixels alone makes more than 1e-4 of the largest answer.
    """
    answers, nudged = (
        model(pixels).numpy().reshape(len(inputs), -1) for pixels in (inputs, np.nextafter(inputs, np.float32(np.inf)))
    )
    return answers, max(1e-4 * np.abs(answers).max(), 3 * np.abs(nudged - answers).max())
