"""Design arguments: which values each takes. All are checked before anything is built."""

import dataclasses
import math
from collections.abc import Callable, Mapping

from kcnn.errors import UserError, nearest
from kcnn.models.spec import DesignValue, ModelSpec
from kcnn.nn.blocks import NORMS, PADDINGS
from kcnn.nn.residual import SHORTCUTS

# A design argument's value, as a program or a command line gives it → the value that is built with.
# Raises ValueError with what was expected.
DesignCheck = Callable[[object], DesignValue]

# Keras' activations that take one tensor and keep its shape. glu halves the channels, threshold takes more arguments.
ACTIVATIONS = (
    "celu", "elu", "exponential", "gelu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh",
    "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
    "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus",
    "swish", "tanh", "tanh_shrink",
)  # fmt: skip
# Keras' initializers that need no arguments and take the kernels of convolutions and of dense layers.
INITIALIZERS = (
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "normal", "one",
    "ones", "orthogonal", "random_normal", "random_uniform", "truncated_normal", "uniform", "variance_scaling", "zero",
    "zeros",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def __call__(self, value: object) -> str:
        """Return `value`, which is one of the words."""
        if not isinstance(value, str) or value not in self.words:
            raise ValueError(nearest(str(value), self.words))
        return value


@dataclasses.dataclass(frozen=True)
class Number:
    """A finite number in a range; whole numbers are numbers, truth values are none.

    Attributes:
        expected: the range in words.
        within: whether a number is in the range.
    """

    expected: str
    within: Callable[[float], bool]

    def __call__(self, value: object) -> float:
        """Return `value`, which is a number in the range."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError(f"expected {self.expected}")
        if not math.isfinite(value) or not self.within(value):
            raise ValueError(f"expected {self.expected}")
        return value


def flag(value: object) -> bool:
    """Return a truth value, given as one or as the word "true" or "false" in any case."""
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


_RATE = Number("a number from 0 to less than 1", lambda value: 0 <= value < 1)
CHECKS: Mapping[str, DesignCheck] = {
    "activation": Choice(ACTIVATIONS),
    "aux_heads": flag,
    "block_dropout": _RATE,
    "bn_momentum": _RATE,
    "drop_path": _RATE,
    "dropblock": _RATE,
    "dropconnect": _RATE,
    "dropout": _RATE,
    "kernel_initializer": Choice(INITIALIZERS),
    "layer_scale": Number("a number from 0 to 1", lambda value: 0 <= value <= 1),
    "norm": Choice(NORMS),
    "norm_epsilon": Number("a number above 0, to 1", lambda value: 0 < value <= 1),
    "norm_scale": flag,
    "padding": Choice(PADDINGS),
    "shortcut": Choice(SHORTCUTS),
    "width": Number("a number above 0, to 10; papers have 0.25 to 2", lambda value: 0 < value <= 10),
}


def check_design(spec: ModelSpec, given: Mapping[str, object]) -> dict[str, DesignValue]:
    """Return the whole design of a network: the architecture's defaults, and over them what was given.

    Args:
        spec: the architecture.
        given: design arguments, with the values of a program or of a command line.

    Raises:
        UserError: the architecture has no such argument, or the value is of another type or out of range.
    """
    design = dict(spec.design)
    for argument, value in given.items():
        if argument not in design:
            raise UserError(f"{spec.name} has no design argument {argument!r}: {nearest(argument, sorted(design))}")
        check = CHECKS.get(argument) or _alike(design[argument])
        try:
            design[argument] = check(value)
        except ValueError as error:
            raise UserError(f"{argument} {value!r}: {error}") from None
    return design


def _alike(default: DesignValue) -> DesignCheck:
    """Return the check of an argument that one family alone has: a value of the kind that its default is of."""
    if isinstance(default, bool):
        return flag
    if isinstance(default, str):
        return _word
    return Number("a number", lambda value: True)


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a word")
    return value
