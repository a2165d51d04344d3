"""The operations that RandAugment and its kin choose from, with their ranges, as tables.

The paper's ranges: Cubuk et al., "AutoAugment", CVPR 2019, table 6. Solarize inverts from a threshold on, Posterize
keeps bits; Contrast, Color, Brightness and Sharpness are factors, ShearX/Y too; TranslateX/Y, 150 of 331 pixels;
Rotate, degrees. Those of TrivialAugment: Müller and Hutter, ICCV 2021, table 1, "Wide"; its 32 pixels, of 224, are a
part here.
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow as tf

from kcnn.data.input_pipeline.augmentations.kernels import colours, filters, geometry

Kernel = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]  # (image, strength) → image


class Operation(NamedTuple):
    """An operation.

    Attributes:
        kernel: (image float32 [h, w, 3], strength) → image.
        none: the strength that changes nothing; of a kernel that has no strength, any.
        full: the strength at level 1.
        signed: whether the level may be below 0, for the opposite.
        low: the least strength that has a meaning, or -inf.
        whole: whether the strength is a whole number.
    """

    kernel: Kernel
    none: float
    full: float
    signed: bool = False
    low: float = -float("inf")
    whole: bool = False

    def apply(self, image: tf.Tensor, level: tf.Tensor) -> tf.Tensor:
        """Apply the operation at a level; 1 is its full strength, -1 the opposite."""
        strength = tf.maximum(self.none + level * (self.full - self.none), self.low)
        return self.kernel(image, tf.round(strength) if self.whole else strength)


def keep(image: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """Return the image as it is."""
    return tf.identity(image)


# 14, of which "identity" is one.
PAPER: Mapping[str, Operation] = {
    "identity": Operation(keep, 0, 0),
    "autocontrast": Operation(colours.autocontrast, 0, 0),
    "equalize": Operation(colours.equalize, 0, 0),
    "rotate": Operation(geometry.rotate, 0, 30, signed=True),
    "solarize": Operation(colours.solarize, 256, 0, low=0),
    "color": Operation(colours.saturate, 1, 1.9, signed=True, low=0),
    "posterize": Operation(colours.posterize, 8, 4, low=1, whole=True),
    "contrast": Operation(colours.contrast, 1, 1.9, signed=True, low=0),
    "brightness": Operation(colours.brighten, 1, 1.9, signed=True, low=0),
    "sharpness": Operation(filters.sharpen, 1, 1.9, signed=True, low=0),
    "shear_x": Operation(geometry.shear_x, 0, 0.3, signed=True),
    "shear_y": Operation(geometry.shear_y, 0, 0.3, signed=True),
    "translate_x": Operation(geometry.translate_x, 0, 150 / 331, signed=True),
    "translate_y": Operation(geometry.translate_y, 0, 150 / 331, signed=True),
}
_WIDE = {
    "rotate": 135.0,
    "color": 1.99,
    "posterize": 2.0,
    "contrast": 1.99,
    "brightness": 1.99,
    "sharpness": 1.99,
    "shear_x": 0.99,
    "shear_y": 0.99,
    "translate_x": 32 / 224,
    "translate_y": 32 / 224,
}
WIDE: Mapping[str, Operation] = {
    name: operation._replace(full=_WIDE.get(name, operation.full)) for name, operation in PAPER.items()
}
# AutoAugment's policies invert, too.
WITH_INVERSION: Mapping[str, Operation] = {**PAPER, "invert": Operation(colours.invert, 0, 0)}
# AugMix's: Hendrycks et al., ICLR 2020, without those that its test of robustness has, nor the identity.
MIXED: Mapping[str, Operation] = {
    "autocontrast": PAPER["autocontrast"],
    "equalize": PAPER["equalize"],
    "posterize": Operation(colours.posterize, 4, 0, low=1, whole=True),
    "rotate": PAPER["rotate"],
    "solarize": PAPER["solarize"],
    "shear_x": PAPER["shear_x"],
    "shear_y": PAPER["shear_y"],
    "translate_x": Operation(geometry.translate_x, 0, 1 / 3, signed=True),
    "translate_y": Operation(geometry.translate_y, 0, 1 / 3, signed=True),
}


def apply_one(
    operations: Mapping[str, Operation], choice: tf.Tensor, image: tf.Tensor, level: tf.Tensor, turn: tf.Tensor
) -> tf.Tensor:
    """Apply the operation number `choice`, an int32 scalar.

    The functions are not inlined: an operation that is not chosen costs little.

    Args:
        operations: to choose from.
        choice: int32 scalar.
        image: float32 [h, w, 3].
        level: float32 scalar from 0; 1 is the full strength.
        turn: float32 scalar; below 0.5, an operation that has an opposite does that.
    """
    signs = [-1.0 if operation.signed else 1.0 for operation in operations.values()]
    level *= tf.where(turn < 0.5, tf.gather(signs, choice), 1.0)
    branches = [functools.partial(_as_function(operation), image, level) for operation in operations.values()]
    return tf.ensure_shape(tf.switch_case(choice, branches), image.shape)


@functools.cache
def _as_function(operation: Operation) -> Kernel:
    """Return an operation as a function of the graph, the same wherever it is used, so that it is traced once."""
    return tf.function(operation.apply, experimental_attributes={"_noinline": True}, autograph=False)
