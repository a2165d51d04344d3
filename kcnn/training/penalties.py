"""Penalties in the loss: L1 (Tibshirani, JRSS B 1996), L2 (ridge), and both, the elastic net (Zou & Hastie 2005)."""

import keras

from kcnn.training.kernels import kernels


class KernelPenalties(keras.callbacks.Callback):
    """Add l1 * Σ|w| + l2 * Σw², over all kernels that train, to the loss of training steps.

    These are Keras' own regularizers. Their gradient goes the way of the loss's own, through clipping, momentum and
    Adam's division, which decoupled decay does not. The loss of validation images is without penalties: it says how
    well they are answered.

    Args:
        model: whose kernels are penalised; what is fitted shares them.
        l1: 0 or more.
        l2: 0 or more; the gradient is 2 * l2 * w.
    """

    def __init__(self, model: keras.Model, l1: float, l2: float):
        super().__init__()
        self._kernels = [variable for _, variable in kernels(model)]
        self._penalty = keras.regularizers.L1L2(l1, l2)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        self._set(self._penalty)

    def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
        self._set(None)  # Keras traces its validation step between this and the end

    def on_test_end(self, logs: dict[str, float] | None = None) -> None:
        self._set(self._penalty)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        self._set(None)

    def _set(self, penalty: keras.regularizers.Regularizer | None) -> None:
        for variable in self._kernels:
            variable.regularizer = penalty
