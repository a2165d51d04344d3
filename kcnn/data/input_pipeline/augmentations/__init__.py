"""Augmentations, one file a kind: a function that is registered with a decorator of this file. Only here is keras_cv.

An augmentation is pure: what it returns depends on its arguments alone, so that a seed gives the same batches in any
order, on any number of threads and after a restart.

What follows the seed in a function's signature, by keyword and with a default, a user may give:
`--augment randaugment(n=3)`. The decorator says what is valid: numbers from and to, or names to choose from.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import tensorflow as tf

from kcnn.data.input_pipeline.augmentation_texts import parse_augmentation
from kcnn.errors import UserError, nearest
from kcnn.registry import Registry

RecordsFunction = Callable[[tf.data.Dataset], tf.data.Dataset]
ViewFunction = Callable[[tf.Tensor, Any, tf.Tensor], tf.Tensor]
ImageFunction = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
BatchFunction = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
F = TypeVar("F", bound=Callable[..., Any])
Valid = tuple[float, float] | tuple[str, ...]  # from and to, or names to choose from
_STAGES = ("records", "view", "image", "batch")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """An augmentation.

    Attributes:
        function: by its stage, with what the user may give as keyword arguments:
            "records": `(records) -> records`, of an epoch, in their order;
            "view": `(encoded, preprocessing, seed) -> image`, in the place of the random crop;
            "image": `(image, seed) -> image` on float32 [h, w, 3] in 0-255;
            "batch": `(images, labels, seed) -> (images, labels)` on float32 [B, h, w, 3] in 0-255 and float32 labels
            [B, C], one-hot or mixed already.
            The seed, an integer [2], is for `tf.random.stateless_*`.
        stage: where it is applied.
        valid: what may be given, by the argument's name.
        mirrors: whether it may mirror an image, which changes letters and digits.
        fit: None, or a function of the training images, an iterable of float32 [h, w, 3] in 0-255. The augmentation's
            function takes its result as the keyword argument `fitted`.
    """

    function: Callable[..., Any]
    stage: str
    valid: dict[str, Valid]
    mirrors: bool = False
    fit: Callable[[Iterable[Any]], Any] | None = None


AUGMENTATIONS: Registry[Augmentation] = Registry("augmentation", "kcnn.data.input_pipeline.augmentations")


def per_image(name: str, **options: Any) -> Callable[[F], F]:
    """Return a decorator that registers a function on images; `_add` has the options."""
    return functools.partial(_add, name, "image", options)


def per_batch(name: str, **options: Any) -> Callable[[F], F]:
    """Return a decorator that registers a function on batches."""
    return functools.partial(_add, name, "batch", options)


def per_view(name: str, **options: Any) -> Callable[[F], F]:
    """Return a decorator that registers a function that draws a view of an encoded image."""
    return functools.partial(_add, name, "view", options)


def per_epoch(name: str, **options: Any) -> Callable[[F], F]:
    """Return a decorator that registers a function on an epoch's records."""
    return functools.partial(_add, name, "records", options)


def _add(name: str, stage: str, options: dict[str, Any], function: F) -> F:
    """Register a function; `mirrors` and `fit` of the options are Augmentation's, the others are arguments."""
    settings = {key: options.pop(key) for key in ("mirrors", "fit") if key in options}
    AUGMENTATIONS.add(name, Augmentation(function, stage, options, **settings), module=function.__module__)
    return function


def read_augmentation(text: str) -> Augmentation:
    """Return the augmentation that a text names, its function bound to the text's arguments.

    Raises:
        UserError: no such augmentation or argument, or a value that is no number, no choice or out of range.
    """
    name, given = parse_augmentation(text)
    found = AUGMENTATIONS.get(name)
    defaults = inspect.signature(found.function).parameters
    values = {}
    for key, value in given.items():
        if key not in found.valid:
            hint = nearest(key, found.valid) if found.valid else "it takes none"
            raise UserError(f"--augment {text}: unknown argument {key!r} of {name}: {hint}")
        values[key] = _read_value(f"--augment {text}: {key}", value, defaults[key].default, found.valid[key])
    return dataclasses.replace(found, function=functools.partial(found.function, **values)) if values else found


def _read_value(where: str, text: str, default: Any, valid: tuple[Any, ...]) -> Any:
    """Return a value of the default's type.

    Raises:
        UserError: it is of another type, out of range or no choice.
    """
    if isinstance(default, str):
        if text not in valid:
            raise UserError(f"{where} {text!r}: {nearest(text, valid)}")
        return text
    low, high = valid
    kind = "a whole number" if isinstance(default, int) else "a number"
    try:
        value = type(default)(text)
    except ValueError:
        raise UserError(f"{where} {text!r}: expected {kind} from {low:g} to {high:g}") from None
    if not low <= value <= high:  # nor no number
        near = default if math.isnan(value) else min(max(value, low), high)
        raise UserError(f"{where} {text}: expected {low:g} to {high:g}; the nearest is {near:g}")
    return value


@dataclasses.dataclass(frozen=True)
class Stages:
    """Functions of augmentations, by stage, each in order."""

    records: list[RecordsFunction]
    view: ViewFunction | None
    image: list[ImageFunction]
    batch: list[BatchFunction]


def choose_augmentations(texts: Sequence[str], images: Callable[[], Iterable[Any]] | None = None) -> Stages:
    """Return the functions of the augmentations that texts name.

    Args:
        texts: an augmentation each, as `read_augmentation` takes it.
        images: returns the images of the training split, for what is fitted to them; None to fit nothing, where it is
            only to be known whether the texts are valid.

    Raises:
        UserError: a text is not valid, or two of them draw a view.
    """
    stages: dict[str, list[Any]] = {stage: [] for stage in _STAGES}
    for text in texts:
        found = read_augmentation(text)
        function = found.function
        if found.fit is not None and images is not None:
            function = functools.partial(function, fitted=found.fit(images()))
        stages[found.stage].append((text, function))
    if len(stages["view"]) > 1:
        names = " and ".join(text for text, _ in stages["view"])
        raise UserError(f"--augment {names}: expected one of them; each cuts its view from the whole image")
    functions = {stage: [function for _, function in found] for stage, found in stages.items()}
    return Stages(functions["records"], next(iter(functions["view"]), None), functions["image"], functions["batch"])
