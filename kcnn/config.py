"""A run as data: frozen dataclasses that recipes make, flags override and JSON stores."""

import dataclasses
import json
import types
import typing
from typing import Any, Self

from kcnn.errors import UserError, nearest
from kcnn.optimizer_defaults import OPTIMIZER_DEFAULTS, rate_ratio, rounded


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training, with its own optimizer and schedule.

    Attributes:
        name: "head", "stages" or "all"; the progress bar and the logs show it.
        epochs: passes over the training split, ≥ 1; early stopping may end the phase before. None to choose them by the
            number of images (`kcnn.training.adaptation`).
        learning_rate: the peak, after the warm-up and before the cosine decay (Loshchilov and Hutter, ICLR 2017).
        unfreeze: how many of the backbone's last stages train together with the head; None for the whole network.
        warmup: the fraction of the steps, 0 to 1, over which the rate rises linearly from 0.
        augmentations: registered augmentations, in order, as `--augment` has them: "flip", "cutmix(alpha=0.5)".
        crop_scale: smallest and largest area of the random crop as fractions of the image's; None for the central crop
            of evaluation. With no random crop and no augmentation, a phase on a frozen backbone computes its features
            once, and solves a linear head on them, whatever the epochs and the rate (`kcnn.training.linear_head`).
        views: of each image, ≥ 1, whose features such a phase computes: the first as in evaluation, the others with the
            random crop and the augmentations, drawn once. From 2 on, they do not keep the phase from that.
        rate_decay: the learning rate of a stage over that of the next one, above 0 to 1; the head has the whole
            (Howard and Ruder, ACL 2018, section 3.2; for Adam, Clark et al., "ELECTRA", ICLR 2020, appendix A).
        size_ratio: the sides of training images over those of evaluation in the first two thirds of the epochs, above 0
            to 1, in steps of 32 pixels. The last third has the size of evaluation (Touvron et al., "Fixing the
            train-test resolution discrepancy", NeurIPS 2019, section 4, adapt a network to its test size in the end).
    """

    name: str
    epochs: int | None
    learning_rate: float
    unfreeze: int | None = None
    views: int = 1
    rate_decay: float = 1.0
    size_ratio: float = 1.0
    warmup: float = 0.1
    augmentations: tuple[str, ...] = ()
    crop_scale: tuple[float, float] | None = None

    @property
    def planned_epochs(self) -> int:
        """The epochs, once they are chosen."""
        if self.epochs is None:
            raise ValueError(f"phase {self.name}: expected a number of epochs, which adapt_config chooses")
        return self.epochs


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run.

    Attributes:
        recipe: the name of the recipe that made the config.
        model: a registered model's name.
        design: further arguments of `create_model`: dropout, width, norm, ...
        dataset: the value of `--dataset`: a registered name, a folder, a table or a tensorflow-datasets name.
        data_dir: the folder of tensorflow-datasets, or the folder that a CSV's paths are relative to.
        offline: attempt no connection.
        weights: "imagenet", "starter", "auto", "none", a file, or a name of `kcnn.weights.hub_names`; "teacher" to
            inherit a teacher's (`kcnn.weights.inheritance`).
        image_size: height and width in pixels; None to choose by the images and the model.
        preprocess: of pixels: "none", or fitted to the training images (`kcnn.nn.preprocessing`): "mean_image", "mean",
            "standardize", "pca", "zca"; None for the architecture's.
        channels: 3, or 1 for grey images, of which the network sees the luminance alone.
        phases: the phases of training, in order.
        transfer: what trains of a network with pretrained weights: "auto", "head" for the head alone, "stages=N" for
            the last N stages after it, "gradual" for the last three stages and then all, or "full" for all.
        batch_size: images a step, over all devices together.
        optimizer: a name of `kcnn.optimizer_defaults`.
        schedule: of the learning rate, a name of `kcnn.training.schedules`.
        weight_decay: decoupled from the gradient, on kernels only.
        l1: the factor of Σ|w| over the kernels, in the loss; 0 for none (`kcnn.training.penalties`).
        l2: the factor of Σw², the same way.
        label_smoothing: 0 to 1 (Szegedy et al., CVPR 2016, section 7).
        smoothing_over: the classes that share what `label_smoothing` takes from the labelled one: "all" of them, as in
            the paper, or the "others".
        clip_norm: the largest norm of all gradients together; 0 for any (`kcnn.training.gradient_clipping`).
        clip_value: the largest magnitude of a gradient's numbers; 0 for any.
        clip_adaptive: the largest norm of a unit's gradient over that of its weights; 0 for any.
        max_norm: the largest norm of a unit's kernel after every step; 0 for any (`kcnn.training.constraints`).
        clip_weights: the largest magnitude of a kernel's numbers after every step; 0 for any.
        sam: the distance at which sharpness-aware minimisation takes gradients; 0 for none (`kcnn.training.sharpness`).
        batch_norm: in layers that train, "train" uses and updates batch statistics; "frozen" keeps the loaded ones,
            with their scale and shift; "recalibrate" replaces them by those of the training images, then freezes them.
        ema: the momentum of the exponential averages of the weights that are judged and kept in the place of the
            weights, less in a short training; 0 for none (Polyak and Juditsky, SIAM J. Control Optim. 1992).
        swa: the last epochs of a phase whose weights' mean is kept, with batch-norm statistics of its own; 0 for none
            (Izmailov et al., UAI 2018). One of `ema` and `swa`.
        patience: epochs without a better validation result before a phase ends.
        objective: what the network predicts, a name of `kcnn.data.input_pipeline.objectives`: "classes"; "rotation",
            or "distill", a teacher's answers to crops, which need no labels.
        teacher: the model whose answers are learned by the objective "distill".
        teacher_weights: "imagenet" or a file.
        temperature: by which the teacher's and the student's logits are divided (Hinton et al. 2015, section 2).
        crops: an epoch's, in distillation.
        dtype: Keras' dtype policy during training; the export is float32.
        seed: the seed of initialisation, order and augmentation.
        deterministic: compute in an order that is always the same, so that the same seed gives the same bits.
        overrides: the fields that the user set, with their values.
    """

    recipe: str
    phases: tuple[Phase, ...]
    model: str = "mobilenetv2"
    design: dict[str, Any] = dataclasses.field(default_factory=dict)
    dataset: str = "digits"
    data_dir: str | None = None
    offline: bool = False
    weights: str = "none"
    image_size: int | None = None
    preprocess: str | None = None
    channels: int = 3
    transfer: str = "auto"
    batch_size: int = 32
    optimizer: str = "adamw"
    schedule: str = "cosine"
    weight_decay: float = 0.05
    l1: float = 0.0
    l2: float = 0.0
    label_smoothing: float = 0.1
    smoothing_over: str = "all"
    clip_norm: float = 0.0
    clip_value: float = 0.0
    clip_adaptive: float = 0.0
    max_norm: float = 0.0
    clip_weights: float = 0.0
    sam: float = 0.0
    batch_norm: str = "train"
    ema: float = 0.0
    swa: int = 0
    patience: int = 20
    objective: str = "classes"
    teacher: str | None = None
    teacher_weights: str = "imagenet"
    temperature: float = 4.0
    crops: int = 25_600
    dtype: str = "float32"
    seed: int = 0
    deterministic: bool = False
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        """Return indented JSON, which `from_json` reads."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, JSON-able."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the Config that `to_json` wrote."""
        fields = json.loads(text)
        phases = [{**phase, "augmentations": tuple(phase["augmentations"])} for phase in fields.pop("phases")]
        for phase in phases:
            phase["crop_scale"] = phase["crop_scale"] and tuple(phase["crop_scale"])
        return cls(phases=tuple(Phase(**phase) for phase in phases), **fields)


_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch_size": (1, 65_536),
    "image_size": (1, 4096),
    "learning_rate": (1e-9, 100.0),
    "warmup": (0.0, 1.0),
    "weight_decay": (0.0, 10.0),
    "label_smoothing": (0.0, 0.999),
    "unfreeze": (0, 1000),
    "ema": (0.0, 0.99999),
    "swa": (0, 1000),
    "l1": (0.0, 10.0),
    "l2": (0.0, 10.0),
    "clip_norm": (0.0, 1e6),
    "clip_value": (0.0, 1e6),
    "clip_adaptive": (0.0, 100.0),
    "max_norm": (0.0, 1e6),
    "clip_weights": (0.0, 1e6),
    "sam": (0.0, 10.0),
    "patience": (1, 100_000),
    "temperature": (0.1, 100.0),
    "crops": (1, 2**31 - 1),
    "seed": (0, 2**31 - 1),
}
_CHOICES: dict[str, tuple[str | int, ...]] = {
    "preprocess": ("none", "mean_image", "mean", "standardize", "pca", "zca"),
    "channels": (1, 3),
    "optimizer": tuple(OPTIMIZER_DEFAULTS),
    "schedule": (
        "constant",
        "step",
        "plateau",
        "cosine",
        "cosine_restarts",
        "polynomial",
        "exponential",
        "one_cycle",
    ),
    "batch_norm": ("train", "frozen", "recalibrate"),
    "smoothing_over": ("all", "others"),
    "dtype": ("float32", "mixed_bfloat16", "mixed_float16"),
}
_GRADUAL = 3  # stages that train before all do
TRANSFERS = ("auto", "head", "stages=N", "gradual", "full")
_WITH_PREPROCESSING = ("auto", "imagenet", "starter", "teacher")  # weights of networks of others
_PHASE_FIELDS = ("epochs", "learning_rate", "warmup", "unfreeze", "augmentations")
# Settings of which a run takes one.
_EXCLUSIVE = (("clip_norm", "clip_value", "clip_adaptive"), ("ema", "swa"))
# The fields that `override` changes, with those of the last phase.
SETTINGS = (
    *_PHASE_FIELDS,
    *(field.name for field in dataclasses.fields(Config) if field.name not in ("recipe", "phases", "overrides")),
)


def override(config: Config, **values: Any) -> Config:
    """Return `config` with the given fields changed; the fields of a phase are changed in the last phase.

    Raises:
        UserError: there is no such field, or a value has another type, is out of its range or is no valid choice.
    """
    types_ = typing.get_type_hints(Config) | typing.get_type_hints(Phase)
    for name, value in values.items():
        if name not in SETTINGS:
            raise UserError(f"unknown setting {name!r}: {nearest(name, SETTINGS)}")
        _check(name, value, types_[name])
    if "transfer" in values:
        config = dataclasses.replace(config, phases=_transfer_phases(config, values))
    config = _fit_optimizer(config, values)
    phase = dataclasses.replace(config.phases[-1], **{k: v for k, v in values.items() if k in _PHASE_FIELDS})
    rest = {k: v for k, v in values.items() if k not in _PHASE_FIELDS}
    if values.get("unfreeze") is not None:
        rest["transfer"] = f"stages={values['unfreeze']}"  # what was asked for trains, whatever "auto" would choose
    config = dataclasses.replace(
        config, phases=(*config.phases[:-1], phase), overrides={**config.overrides, **values}, **rest
    )
    _check_together(config)
    _check_pixels(config)
    return config


def _check_together(config: Config) -> None:
    """Raise UserError for settings that exclude one another."""
    for names in _EXCLUSIVE:
        given = [name for name in names if getattr(config, name)]
        if len(given) > 1:
            raise UserError(f"{' and '.join(f'--{name}' for name in given)}: expected one of them")
    for name in ("sam", "swa"):
        if getattr(config, name) and config.objective == "distill":
            raise UserError(f"--{name}: expected without a teacher; the objective is distill")


def _fit_optimizer(config: Config, values: dict[str, Any]) -> Config:
    """Return `config` with the rates and the decay that go with another optimizer or batch size.

    What the user gives, now or before, stays. The rates of phases keep their ratios.

    Raises:
        UserError: a warm-up for a schedule that has its own.
    """
    new = {name: values.get(name, getattr(config, name)) for name in ("optimizer", "batch_size")}
    given = config.overrides.keys() | values.keys()
    if "warmup" in given and values.get("schedule", config.schedule) == "one_cycle":
        raise UserError(
            "--warmup with --schedule one_cycle: expected without; it rises over 30% of the steps by itself"
        )
    ratio = rate_ratio(config.optimizer, config.batch_size, *new.values())
    phases = [
        dataclasses.replace(phase, learning_rate=rounded(phase.learning_rate * ratio)) if ratio != 1 else phase
        for phase in config.phases
    ]
    if "learning_rate" in given:
        phases[-1] = config.phases[-1]
    decay = config.weight_decay
    if new["optimizer"] != config.optimizer and "weight_decay" not in given:
        decay = OPTIMIZER_DEFAULTS[new["optimizer"]].weight_decay
    return dataclasses.replace(config, phases=tuple(phases), weight_decay=decay)


def _check_pixels(config: Config) -> None:
    """Raise UserError for preprocessing of its own in a network whose weights were trained with another.

    Weights in a file may have been trained with it: that is seen when they are loaded.
    """
    for name, usual in (("preprocess", None), ("channels", 3)):
        value = getattr(config, name)
        if value != usual and config.weights in _WITH_PREPROCESSING:
            raise UserError(
                f"--{name} {value}: pretrained weights (--weights {config.weights}) have a preprocessing of their own: "
                "expected --weights none, or a file of weights that were trained with it"
            )


def _transfer_phases(config: Config, values: dict[str, Any]) -> tuple[Phase, ...]:
    """Return the phases of a recipe that fine-tunes for `--transfer`.

    Raises:
        UserError: there is no such choice, the recipe does not fine-tune, or `--unfreeze` is given too.
    """
    transfer, (first, *later) = values["transfer"], config.phases
    number = transfer.removeprefix("stages=")
    if transfer not in TRANSFERS and not (transfer.startswith("stages=") and number.isdecimal()):
        raise UserError(f"--transfer {transfer!r}: {nearest(transfer, TRANSFERS)}")
    if transfer == "stages=N":
        raise UserError("--transfer stages=N: expected a number of stages, as in --transfer stages=2")
    if first.unfreeze != 0 or not later:
        raise UserError(f"--transfer {transfer}: expected with --finetune; the recipe is {config.recipe}")
    if values.get("unfreeze") is not None:
        raise UserError("--transfer and --unfreeze: expected one of the two; --unfreeze N is --transfer stages=N")
    last = dataclasses.replace(later[-1], unfreeze=None)
    if number != transfer:
        _check("unfreeze", int(number), int)
        stages = dataclasses.replace(last, name="stages", unfreeze=int(number))
        return (first, stages) if int(number) else (first,)
    if transfer == "gradual":
        return first, dataclasses.replace(last, name="stages", unfreeze=_GRADUAL), last
    return (first,) if transfer == "head" else (first, last)


def _check(name: str, value: Any, type_: Any) -> None:
    """Raise UserError when a value has another type, is out of its range or is no valid choice."""
    allowed = typing.get_args(type_) if isinstance(type_, types.UnionType) else (type_,)
    allowed = tuple(typing.get_origin(each) or each for each in allowed)
    number_as_float = float in allowed and isinstance(value, int) and not isinstance(value, bool)
    if not (number_as_float or type(value) in allowed):
        expected = " or ".join("none" if each is type(None) else each.__name__ for each in allowed)
        raise UserError(f"--{name} {value!r}: expected {expected}")
    if name in _RANGES and value is not None:
        low, high = _RANGES[name]
        if not low <= value <= high:
            raise UserError(
                f"--{name} {value}: expected {low:g} to {high:g}; the nearest is {min(max(value, low), high):g}"
            )
    if name in _CHOICES and value is not None and value not in _CHOICES[name]:
        raise UserError(f"--{name} {value!r}: {nearest(str(value), map(str, _CHOICES[name]))}")
