"""From a name to a network: input, preprocessing, features, head, logits, once for all families."""

import dataclasses
import os
import warnings
from types import MappingProxyType
from typing import Any

import keras

from kcnn.errors import UserError, nearest
from kcnn.models.design import check_design
from kcnn.models.spec import DesignValue, ModelSpec, model_spec
from kcnn.models.taps import feature_maps
from kcnn.nn.blocks import Ops
from kcnn.nn.keras_settings import needed_settings
from kcnn.nn.preprocessing import MODES, normalize_pixels
from kcnn.weights import load_weights

_OPS_FIELDS = {field.name for field in dataclasses.fields(Ops)}


@needed_settings()
def create_model(
    name: str,
    num_classes: int = 1000,
    input_size: int | tuple[int, int] | None = None,
    weights: str | os.PathLike[str] | keras.Model | None = None,
    *,
    features_only: bool = False,
    preprocessing: str | None = None,
    channels: int = 3,
    **design: DesignValue,
) -> keras.Model:
    """Build a classifier.

    Args:
        name: as `list_models` has it; case, "-" and "_" are forgiven.
        num_classes: outputs, 1 or more.
        input_size: height and width in pixels, or one number for both; None for the paper's.
        weights: what `kcnn.load_weights` takes; None for random ones. A UserWarning says what of the design the
            source leaves open.
        features_only: without the head, for detection backbones or classifiers on several stages.
        preprocessing: of pixels, a mode of `kcnn.nn.preprocessing`, for weights that were trained with another than the
            architecture's, or one that is fitted to training images; None for the architecture's.
        channels: 3, or 1 for grey images: the network computes on their luminance alone. It takes RGB in any case.
        **design: arguments of the architecture, as `model_spec(name).design` lists them with their defaults: dropout,
            drop_path, norm ("batch", "sync_batch", "group", "layer", "none"), bn_momentum, activation,
            kernel_initializer, width, aux_heads, ... `kcnn.models.design` has the values that each takes.

    Returns:
        a functional Keras model of raw RGB, 0-255, uint8 or float [N, H, W, 3] → float32 logits [N, num_classes],
        whatever the global dtype policy, in which the layers before compute. Keras' other settings (the data format,
        `floatx`) change nothing. With `aux_heads=True` → a list of them, the auxiliary classifiers' last.
        With `features_only` → {"stride2": float [N, H / 2, W / 2, C], "stride4": ..., ... "stride32": ...}: at every
        stride that the network has, what its last block gives. Its attribute `design` has all design arguments and
        the preprocessing, by which `kcnn.weights` knows what the weights are for.

    Raises:
        UserError: an unknown name or design argument, a value out of range, an input below the network's minimum,
            weights that do not fit.
    """
    spec = model_spec(name)
    height, width = _size(spec, spec.input_size if input_size is None else input_size)
    if not isinstance(num_classes, int) or num_classes < 1:
        raise UserError(f"num_classes is {num_classes!r}: expected a whole number, 1 or more")
    if preprocessing not in (None, *MODES):
        raise UserError(f"preprocessing {preprocessing!r}: {nearest(str(preprocessing), MODES)}")
    preprocessing = preprocessing or spec.preprocessing
    if channels not in (1, 3):
        raise UserError(f"channels {channels!r}: expected 1, for grey images, or 3")
    chosen: dict[str, Any] = dict(check_design(spec, design))
    ops = Ops(**{key: value for key, value in chosen.items() if key in _OPS_FIELDS})
    own = {key: value for key, value in chosen.items() if key not in _OPS_FIELDS}
    auxiliary = spec.auxiliary if own.pop("aux_heads", False) else {}

    inputs = keras.Input((height, width, 3), name="images", dtype="float32")
    x = normalize_pixels(inputs, preprocessing, channels)
    x = spec.features(x, ops, **own)
    outputs = [spec.head(x, ops, num_classes)]
    if auxiliary:
        backbone = keras.Model(inputs, x)
        for index, (tapped, head) in enumerate(auxiliary.items(), start=1):
            outputs.append(head(backbone.get_layer(tapped).output, ops, num_classes, name=f"head_aux{index}"))
    model = keras.Model(inputs, outputs if auxiliary else outputs[0], name=spec.name)
    # Read-only: Keras would track a plain dictionary among the model's parts.
    model.design = MappingProxyType({**chosen, "preprocessing": preprocessing, "channels": channels})
    if weights is not None:
        report = load_weights(model, weights)
        if report.remarks:
            warnings.warn(str(report), stacklevel=3)  # the caller is behind the decorator
    if not features_only:
        return model
    features = keras.Model(inputs, feature_maps(model), name=spec.name)
    features.design = model.design
    return features


def _size(spec: ModelSpec, given: int | tuple[int, int]) -> tuple[int, int]:
    size = (given, given) if isinstance(given, int) else tuple(given)
    if len(size) != 2 or not all(isinstance(side, int) for side in size):
        raise UserError(f"input_size {given!r}: expected a whole number of pixels, or (height, width)")
    if min(size) < spec.min_size:
        raise UserError(f"{spec.name} takes images of at least {spec.min_size} pixels a side, got {size[0]}x{size[1]}")
    return size
