"""Losses of auxiliary classifiers, by hand."""

import keras
import numpy as np
import pytest
from scipy.special import log_softmax

from kcnn.training.auxiliary import with_auxiliary, without_auxiliary


def network(auxiliary):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, activation="relu", name="stem_dense")(inputs)
    outputs = [keras.layers.Dense(3, name="head_logits")(x)]
    outputs += [keras.layers.Dense(3, name=f"head_aux{index}_logits")(x) for index in range(1, 1 + auxiliary)]
    return keras.Model(inputs, outputs if auxiliary else outputs[0])


@pytest.mark.parametrize("auxiliary", [0, 1, 2])
def test_the_loss_is_the_weighted_sum_and_the_accuracy_the_main_classifiers(auxiliary):
    model = network(auxiliary)
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(50, 4)).astype(np.float32), np.eye(3, dtype=np.float32)[rng.integers(0, 3, 50)]
    crossentropy = keras.losses.CategoricalCrossentropy(from_logits=True)
    fitted, loss, metrics = with_auxiliary(model, crossentropy, 0.3)
    fitted.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, metrics=metrics)
    found = fitted.evaluate(images, labels, verbose=0, return_dict=True, batch_size=50)
    logits = np.reshape(model(images), (-1, 50, 3))
    losses = [-np.mean(np.sum(labels * log_softmax(one, axis=1), axis=1)) for one in logits]
    assert found["loss"] == pytest.approx(losses[0] + 0.3 * sum(losses[1:]), rel=1e-5)
    assert found["accuracy"] == pytest.approx(np.mean(logits[0].argmax(1) == labels.argmax(1)))
    np.testing.assert_allclose(without_auxiliary(model)(images), logits[0], rtol=1e-5)

    before = [np.array(variable) for variable in model.trainable_variables]
    fitted.fit(images, labels, verbose=0)
    assert all(np.abs(new - old).max() > 0 for new, old in zip(model.trainable_variables, before, strict=True))
