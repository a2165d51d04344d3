"""The temperature, on answers whose right temperature is known."""

import keras
import numpy as np
import pytest
from scipy.special import softmax
from test_evaluate import example, write

from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.evaluation.calibration import fit_temperature, validation_logits
from kcnn.evaluation.metrics import expected_calibration_error


def answers(count, classes, scale, seed=0):
    """Return logits of a network that is too sure by a factor of `scale`, and labels drawn from the right ones."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 2, (count, classes))
    labels = (softmax(logits, axis=1).cumsum(1) > random.random((count, 1))).argmax(1)
    return logits * scale, labels


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0])
def test_finds_by_how_much_a_network_is_too_sure(scale):
    logits, labels = answers(20_000, 10, scale)
    assert fit_temperature(logits.astype(np.float32), labels) == pytest.approx(scale, rel=0.05)


def test_held_out_answers_are_better_calibrated():
    logits, labels = answers(4000, 5, 3.0)
    temperature = fit_temperature(logits[:2000], labels[:2000])

    def error(logits):
        probabilities = softmax(logits, axis=1)
        return expected_calibration_error(probabilities.argmax(1) == labels[2000:], probabilities.max(1))

    assert error(logits[2000:]) > 0.1
    assert error(logits[2000:] / temperature) < 0.03


def test_without_mistakes_or_images_it_stays_near_one():
    logits = 5 * np.eye(3).repeat(10, 0)
    assert 0.3 < fit_temperature(logits, np.arange(3).repeat(10)) < 1
    assert fit_temperature(np.zeros((0, 3)), np.zeros(0, int)) == 1


def test_logits_of_the_validation_images(tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    colours = [(200, 0, 0), (0, 150, 0), (0, 0, 90)]
    paths = write(tmp_path, [example(f"{i}.png", 2 - i, colours[i]) for i in range(3)])
    spec = Preprocessing(image_size=(8, 8))
    logits, labels = validation_logits(model, paths, spec)
    np.testing.assert_allclose(logits, colours, atol=1e-3)
    assert labels.tolist() == [2, 1, 0]
    logits, labels = validation_logits(model, [], spec)
    assert (logits.shape, labels.shape) == ((0, 3), (0,))
