"""Every architecture that keras.applications has, against it: the same weights, the same logits."""

import sys

import keras
import numpy as np
import pytest
from networks import SPECS, answers_and_rounding, by_default, calibrate, images, randomize, small

import kcnn
from kcnn.nn.normalization import BatchNorm
from kcnn.weights import copy_weights

TWINS = [spec for spec in SPECS if spec.application]
# The reference implementation's table (tensorflow/models, slim/nets/mobilenet/README.md), at 224: millions of
# multiply-adds, and of parameters without batch norm's.
SLIM = [
    ("mobilenetv2_0.35", 59, 1.66),
    ("mobilenetv2_0.5", 97, 1.95),
    ("mobilenetv2_0.75", 209, 2.61),
    ("mobilenetv2", 300, 3.47),
    ("mobilenetv2_1.3", 509, 5.34),
    ("mobilenetv2_1.4", 582, 6.06),
]


@pytest.fixture(autouse=True)
def clean():
    yield
    keras.backend.clear_session(free_memory=True)


def prepared(theirs, function, pixels):
    """Return `pixels` as a model of keras.applications takes them."""
    if any(isinstance(layer, keras.layers.Normalization) and layer.input_mean is None for layer in theirs.layers):
        # EfficientNet has ImageNet's mean and deviation among its weights.
        return 255 * keras.applications.imagenet_utils.preprocess_input(pixels.copy(), mode="torch")
    return sys.modules[function.__module__].preprocess_input(pixels.copy())


# Each is built twice, and Inception-ResNet v2 and NASNet have 780 and 770 layers.
FEW = ("densenet121", "efficientnetb0", "mobilenetv2_0.35", "mobilenetv3small_0.75", "resnet50", "convnexttiny")


@pytest.mark.parametrize("name", by_default([spec.name for spec in TWINS], FEW))
def test_logits_equal_after_copying_and_weights_after_copying_back(name):
    spec = kcnn.model_spec(name)
    application, function = spec.application, getattr(keras.applications, spec.application.function)
    size = max(75, spec.min_size + 36)  # odd, where paddings differ, and more than one position at the end
    shape = (size, size, 3)
    theirs = function(weights=None, classes=7, input_shape=shape, classifier_activation=None, **application.arguments)
    ours = kcnn.create_model(name, 7, size)
    pixels = images(ours, 8)
    inputs = prepared(theirs, function, pixels)
    randomize(theirs, 2)
    calibrate(theirs, inputs)
    assert copy_weights(theirs, ours).kept == ()
    (expected, tolerance), found = answers_and_rounding(theirs, inputs), ours(pixels).numpy()
    assert expected.shape == (8, 7)
    assert np.abs(expected).max() > 1e-3
    assert np.abs(expected - found).max() <= tolerance <= 3e-3 * np.abs(expected).max()
    assert np.ptp(expected, axis=0).max() > 1e-3 * np.abs(expected).max()  # it depends on the image

    # Normalization is not copied: the statistics of pixels.
    copied = [v for layer in theirs.layers if not isinstance(layer, keras.layers.Normalization) for v in layer.weights]
    values = [variable.numpy() for variable in copied]
    randomize(theirs, 3)
    assert copy_weights(ours, theirs).kept == ()
    for variable, value in zip(copied, values, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.path)


def test_every_network_of_keras_applications_is_here():
    functions = {spec.application.function for spec in TWINS}
    theirs = {name for name in dir(keras.applications) if name[0].isupper()}
    assert theirs - functions == set()


@pytest.mark.parametrize(("name", "macs", "params"), SLIM)
def test_mobilenets_are_the_reference_implementation(name, macs, params):
    model = small(name)
    norms = sum(layer.gamma.shape[0] * 2 for layer in model.layers if isinstance(layer, BatchNorm))
    assert (kcnn.model_spec(name).params - norms) / 1e6 == pytest.approx(params, abs=0.007)
    assert kcnn.model_spec(name).macs / 1e6 == pytest.approx(macs, abs=1)
