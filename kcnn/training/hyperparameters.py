"""What a search for hyperparameters may change, and where it looks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kcnn.config import Config
from kcnn.data.ingestion.summary import Summary
from kcnn.errors import UserError
from kcnn.training.suit import suit


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; times the recipe's own where `relative`, and by their logarithms where `log`."""

    low: float
    high: float
    log: bool = False
    relative: bool = False


Ranges = Mapping[str, Range | tuple[Any, ...]]  # a tuple is a choice
# By the names of the flags.
SPACE: Ranges = {
    "learning_rate": Range(0.1, 10.0, log=True, relative=True),
    "weight_decay": Range(1e-4, 0.5, log=True),
    "label_smoothing": Range(0.0, 0.2),
    "batch_size": (16, 32, 64, 128),
    "augment": ("flip", "flip,randaugment", "flip,cutmix_mixup", "flip,randaugment,cutmix_mixup"),
    "crop_area": Range(0.1, 1.0),  # the least part of an image's area that a random crop leaves
}


def own_values(config: Config) -> dict[str, Any]:
    """What `config` has of the hyperparameters; of augmentation nothing where its last phase crops no images."""
    phase = config.phases[-1]
    values = {
        "learning_rate": phase.learning_rate,
        "weight_decay": config.weight_decay,
        "label_smoothing": config.label_smoothing,
        "batch_size": config.batch_size,
    }
    if phase.crop_scale is None:
        return values
    return {**values, "augment": ",".join(phase.augmentations), "crop_area": phase.crop_scale[0]}


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """`config` with these hyperparameters; learning rate and augmentation are the last phase's."""
    settings, phase = dict(values), config.phases[-1]
    if "learning_rate" in settings:
        phase = dataclasses.replace(phase, learning_rate=settings.pop("learning_rate"))
    if "augment" in settings:
        phase = dataclasses.replace(phase, augmentations=tuple(filter(None, settings.pop("augment").split(","))))
    if "crop_area" in settings:
        phase = dataclasses.replace(phase, crop_scale=(settings.pop("crop_area"), 1.0))
    return dataclasses.replace(config, phases=(*config.phases[:-1], phase), **settings)


def ranges_for(config: Config, summary: Summary, devices: int = 1) -> dict[str, Range | tuple[Any, ...]]:
    """Where to search for `config`, which suits the data: `SPACE` without what the user has given, within what suits
    the data and around the config's own values; batches divide over the devices.

    Raises:
        UserError: nothing is left to search.
    """
    given = {"augment" if name == "augmentations" else name for name in config.overrides}
    ranges: dict[str, Range | tuple[Any, ...]] = {}
    for name, own in own_values(config).items():
        where = SPACE[name]
        if name in given:
            continue
        if isinstance(where, Range):
            ends = [
                _suited(config, summary, name, end * (own if where.relative else 1)) for end in (where.low, where.high)
            ]
            ranges[name] = Range(min(ends[0], own), max(ends[1], own), log=where.log)
            continue
        choices = {_suited(config, summary, name, choice) for choice in where}
        if name == "batch_size":
            choices = {size for size in choices if size <= summary.total("train") and size % devices == 0}
        if len(choices | {own}) > 1:
            ranges[name] = tuple(sorted(choices | {own}))
    if not ranges:
        raise UserError("--tune: nothing is left to search, since flags give every setting")
    return ranges


def _suited(config: Config, summary: Summary, name: str, value: Any) -> Any:
    """What becomes of a value when it is made to suit the data (`kcnn.training.suit`)."""
    changed = with_values(config, {name: value})
    return own_values(dataclasses.replace(changed, phases=(suit(changed.phases[-1], summary),)))[name]


def keras_tuner_config(ranges: Ranges, own: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A space with its defaults and the values chosen as `keras_tuner.HyperParameters.get_config()` has them, version
    1.4, which is what TFX's Tuner writes.
    """

    def dimension(name: str, where: Range | tuple[Any, ...]) -> dict[str, Any]:
        common = {"name": name, "default": own[name], "conditions": []}
        if isinstance(where, tuple):
            config = {**common, "values": list(where), "ordered": not isinstance(where[0], str)}
            return {"class_name": "Choice", "config": config}
        sampling = "log" if where.log else "linear"
        config = {**common, "min_value": where.low, "max_value": where.high, "step": None, "sampling": sampling}
        return {"class_name": "Float", "config": config}

    return {"space": [dimension(name, where) for name, where in ranges.items()], "values": dict(values)}
