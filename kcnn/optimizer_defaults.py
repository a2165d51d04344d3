"""The learning rate and the weight decay that go with an optimizer and a batch size."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Default:
    """What suits an optimizer when a network is trained from random weights.

    Attributes:
        learning_rate: the peak, at `batch_size`.
        batch_size: images a step.
        power: of the batch size, that the rate follows: 1 for gradient descent (Goyal et al., "Accurate, Large
            Minibatch SGD", 2017), 0.5 for what divides by the size of gradients (You et al., "Large Batch Optimization
            for Deep Learning", ICLR 2020, section 4).
        weight_decay: decoupled: a step takes rate x decay of a kernel.
    """

    learning_rate: float
    batch_size: int
    power: float
    weight_decay: float

    def rate_at(self, batch_size: int) -> float:
        """Return the rate for another batch size."""
        return self.learning_rate * (batch_size / self.batch_size) ** self.power


# He et al., CVPR 2016: 0.1 for 256 images, and 1e-4 in the loss. Through momentum 0.9 a gradient acts ten times over:
# as decoupled decay this is 1e-3; without momentum the same rate would be a tenth of the way.
_MOMENTUM = Default(0.1, 256, 1.0, 1e-3)
_ADAMW = Default(2e-3, 32, 0.5, 0.05)

OPTIMIZER_DEFAULTS = {
    "sgd": Default(0.5, 256, 1.0, 1e-4),
    "momentum": _MOMENTUM,
    "nesterov": _MOMENTUM,
    "rmsprop": Default(1e-3, 32, 0.5, 0.0),
    "adam": dataclasses.replace(_ADAMW, weight_decay=0.0),
    "adamw": _ADAMW,
    "lamb": Default(5e-3, 512, 0.5, 0.05),  # You et al., ICLR 2020, appendix: ResNet-50
    "lion": Default(2e-4, 32, 0.5, 0.5),  # Chen et al., NeurIPS 2023, section 5: a tenth and ten times AdamW's
    "adafactor": Default(1e-2, 32, 0.5, 0.01),  # Shazeer & Stern, ICML 2018: relative to the size of the weights
    "muon": _ADAMW,  # Liu et al., 2025, section 2.2: AdamW's
}


def rate_ratio(optimizer: str, batch_size: int, new_optimizer: str, new_batch_size: int) -> float:
    """Return by what a learning rate is multiplied when it is for another optimizer or batch size."""
    if (optimizer, batch_size) == (new_optimizer, new_batch_size):
        return 1.0
    new, old = OPTIMIZER_DEFAULTS[new_optimizer], OPTIMIZER_DEFAULTS[optimizer]
    return new.rate_at(new_batch_size) / old.rate_at(batch_size)


def rounded(rate: float) -> float:
    """Return a rate to four digits, as people write it."""
    return round(rate, 3 - math.floor(math.log10(rate))) if rate > 0 else rate
