"""The hyperparameters that a search may change, and the ranges that it looks in."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kcnn.config import Config
from kcnn.data.ingestion.summary import Summary
from kcnn.data.input_pipeline.augmentation_texts import split_augmentations
from kcnn.errors import UserError
from kcnn.training.adaptation import adapt_phase
from kcnn.training.freezing import is_frozen

Values = Mapping[str, Any]  # hyperparameters by name


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers to choose from.

    Attributes:
        low: the smallest; above 0 where `log`.
        high: the largest, above `low`.
        log: whether numbers are drawn by their logarithms. A value below `low`, which only a recipe can have (weight
            decay 0), then counts as `low`: a logarithm cannot reach it.
        relative: whether `low` and `high` are multiples of the recipe's own value.
    """

    low: float
    high: float
    log: bool = False
    relative: bool = False


SearchSpace = Mapping[str, Range | tuple[Any, ...]]  # by name; a tuple is a choice
# The keys are the names of the flags.
SPACE: SearchSpace = {
    "learning_rate": Range(0.1, 10.0, log=True, relative=True),
    "weight_decay": Range(1e-4, 0.5, log=True),
    "label_smoothing": Range(0.0, 0.2),
    "batch_size": (16, 32, 64, 128),
    "augment": ("flip", "flip,randaugment", "flip,cutmix_mixup", "flip,randaugment,cutmix_mixup"),
    "crop_area": Range(0.1, 1.0),  # the least part of an image's area that a random crop leaves
}


def get_hyperparameters(config: Config) -> dict[str, Any]:
    """Return the hyperparameters of `config`; those of augmentation only where its last phase draws crops."""
    phase = config.phases[-1]
    values = {
        "learning_rate": phase.learning_rate,
        "weight_decay": config.weight_decay,
        "label_smoothing": config.label_smoothing,
        "batch_size": config.batch_size,
    }
    if phase.crop_scale is None or is_frozen(phase):
        return values
    return {**values, "augment": ",".join(phase.augmentations), "crop_area": phase.crop_scale[0]}


def replace_hyperparameters(config: Config, values: Values) -> Config:
    """Return `config` with other hyperparameters; learning rate and augmentation are the last phase's."""
    settings, phase = dict(values), config.phases[-1]
    if "learning_rate" in settings:
        phase = dataclasses.replace(phase, learning_rate=settings.pop("learning_rate"))
    if "augment" in settings:
        phase = dataclasses.replace(phase, augmentations=split_augmentations(settings.pop("augment")))
    if "crop_area" in settings:
        phase = dataclasses.replace(phase, crop_scale=(settings.pop("crop_area"), 1.0))
    return dataclasses.replace(config, phases=(*config.phases[:-1], phase), **settings)


def search_space(config: Config, summary: Summary, devices: int = 1) -> dict[str, Range | tuple[Any, ...]]:
    """Return where to search: `SPACE` around the config's own values, without what the user has given.

    Args:
        config: a config that is adapted to the data.
        summary: of the data; no value goes beyond what is adapted to it.
        devices: over which batches divide.

    Raises:
        UserError: nothing is left to search.
    """
    given = {"augment" if name == "augmentations" else name for name in config.overrides}
    space: dict[str, Range | tuple[Any, ...]] = {}
    for name, own in get_hyperparameters(config).items():
        where = SPACE[name]
        if name in given:
            continue
        if isinstance(where, Range):
            found = _range_around(config, summary, name, where, own)
            if found.low < found.high:
                space[name] = found
            continue
        choices = {_adapted(config, summary, name, choice) for choice in where}
        if name == "batch_size":
            choices = {size for size in choices if size <= summary.total("train") and size % devices == 0}
        if len(choices | {own}) > 1:
            space[name] = tuple(sorted(choices | {own}))
    if not space:
        raise UserError("--tune: nothing is left to search, since flags give every setting")
    return space


def _range_around(config: Config, summary: Summary, name: str, where: Range, own: float) -> Range:
    """Widen a range to the config's own value, as far as a logarithm allows."""
    low, high = (
        _adapted(config, summary, name, end * (own if where.relative else 1)) for end in (where.low, where.high)
    )
    return Range(low if where.log and own <= 0 else min(low, own), max(high, own), log=where.log)


def _adapted(config: Config, summary: Summary, name: str, value: Any) -> Any:
    """Return what becomes of a value when its phase is adapted to the data (`kcnn.training.adaptation`)."""
    changed = replace_hyperparameters(config, {name: value})
    return get_hyperparameters(dataclasses.replace(changed, phases=(adapt_phase(changed.phases[-1], summary),)))[name]


def keras_tuner_config(space: SearchSpace, own: Values, values: Values) -> dict[str, Any]:
    """Return a search's space and result as `keras_tuner.HyperParameters.get_config()` of version 1.4 does.

    That is what TFX's Tuner writes.

    Args:
        space: where was searched.
        own: the recipe's own values, the defaults.
        values: the values that were chosen.
    """

    def dimension(name: str, where: Range | tuple[Any, ...]) -> dict[str, Any]:
        common = {"name": name, "default": own[name], "conditions": []}
        if isinstance(where, tuple):
            config = {**common, "values": list(where), "ordered": not isinstance(where[0], str)}
            return {"class_name": "Choice", "config": config}
        sampling = "log" if where.log else "linear"
        config = {**common, "min_value": where.low, "max_value": where.high, "step": None, "sampling": sampling}
        return {"class_name": "Float", "config": config}

    return {"space": [dimension(name, where) for name, where in space.items()], "values": dict(values)}
