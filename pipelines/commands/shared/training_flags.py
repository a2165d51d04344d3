"""Flags that say what is trained, and how."""

from typing import Any

from absl import flags

from kcnn.config import SETTINGS, Config
from kcnn.data.input_pipeline.augmentation_texts import split_augmentations
from kcnn.documents import parse_json
from kcnn.errors import UserError


def define_training(values: flags.FlagValues) -> None:
    """Define the flags of a recipe's settings, which `read_config` reads with those of the data set."""
    flags.DEFINE_string(
        "model",
        Config.model,
        "The architecture: a name that `python main.py models` lists; for training, auto fine-tunes the best whose "
        "pretrained weights are on this machine, within --max_latency_ms.",
        flag_values=values,
    )
    flags.DEFINE_multi_string(
        "design",
        [],
        "NAME=VALUE: an argument of the architecture (width=0.5, dropout=0.3, norm=group)",
        flag_values=values,
    )
    flags.DEFINE_string(
        "weights",
        None,
        "What to start from: imagenet, starter (ships with the project), a file, timm:NAME, torchvision:NAME or "
        "hf://OWNER/NAME (from the Hugging Face hub), none, auto (the first of the first two that can be had; the "
        "default with --finetune), or, in distillation, teacher (the default there).",
        flag_values=values,
    )
    flags.DEFINE_string(
        "augment",
        None,
        "Augmentations of the last phase, as in 'flip,randaugment(n=3,m=12),cutmix(alpha=0.5)'; '' for none. The guide "
        "to training lists them. (default: the recipe's)",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "deterministic",
        Config.deterministic,
        "Compute in an order that is always the same: on the same kind of machine, the same seed gives the same bits, "
        "after an interruption too.",
        flag_values=values,
    )
    flags.DEFINE_float(
        "dropout",
        None,
        "Rate of the dropout in the classifier's head, as --design dropout=0.5. (default: the architecture's)",
        flag_values=values,
    )
    for name, help_text in _INTEGERS.items():
        flags.DEFINE_integer(name, None, help_text, flag_values=values)
    for name, help_text in _FLOATS.items():
        flags.DEFINE_float(name, None, help_text, flag_values=values)
    for name, help_text in _STRINGS.items():
        flags.DEFINE_string(name, None, help_text, flag_values=values)


def define_recipe(values: flags.FlagValues) -> None:
    """Define the flags that choose a recipe, which `read_recipe` reads."""
    flags.DEFINE_string(
        "recipe", None, "How to train: scratch, finetune, linear_probe. (default: scratch)", flag_values=values
    )
    flags.DEFINE_bool(
        "finetune",
        False,
        "Start from pretrained weights: the head first, then the backbone. As --recipe finetune.",
        flag_values=values,
    )


def read_recipe(values: flags.FlagValues) -> str:
    """Return the recipe's name. `--model auto` fine-tunes unless another is given.

    Raises:
        UserError: `--finetune` and another recipe.
    """
    if values.finetune and values.recipe not in (None, "finetune"):
        raise UserError(f"--finetune and --recipe {values.recipe}: expected one of the two")
    return values.recipe or ("finetune" if values.finetune or values.model == "auto" else "scratch")


_INTEGERS = {
    "unfreeze": "Fine-tune only this many of the backbone's last stages: --transfer stages=N. (default: all)",
    "epochs": "Epochs of the last phase. (default: the recipe's, or by the number of images)",
    "image_size": "Height and width in pixels. (default: by the images and the architecture)",
    "channels": "1 for grey images: the network gets their luminance alone, and takes RGB all the same. (default: 3)",
    "batch_size": "Images a step, over all devices. (default: the recipe's)",
    "patience": "Stop a phase after this many epochs without improvement. (default: the recipe's)",
    "swa": "Keep the mean of the weights of a phase's last epochs, this many. (default: 0, none)",
    "seed": f"Of initialisation, order and augmentation. (default: {Config.seed})",
}
_FLOATS = {
    "learning_rate": "Peak learning rate of the last phase. (default: by recipe, --optimizer and --batch_size)",
    "warmup": "The part of the last phase's steps over which the rate rises, 0 to 1. (default: the recipe's)",
    "weight_decay": "Decoupled, on kernels only. (default: by recipe and --optimizer)",
    "ema": "Keep exponential averages of the weights, of this momentum at most: 0.999. (default: 0, none)",
    "label_smoothing": "From 0 to 1. (default: the recipe's)",
    "l1": "This times the sum of the kernels' magnitudes, in the loss. (default: the recipe's)",
    "l2": "This times the sum of the kernels' squares, in the loss. (default: the recipe's)",
    "clip_norm": "The largest norm of all gradients together. (default: the recipe's)",
    "clip_value": "The largest magnitude of a gradient's numbers. (default: the recipe's)",
    "clip_adaptive": "The largest norm of a unit's gradient over its weights': 0.01. (default: the recipe's)",
    "max_norm": "The largest norm of a unit's kernel: 3. (default: the recipe's)",
    "clip_weights": "The largest magnitude of a kernel's numbers. (default: the recipe's)",
    "sam": "Sharpness-aware minimisation at this distance: 0.05. (default: the recipe's)",
}
_STRINGS = {
    "transfer": "What fine-tuning trains, after a head on the frozen backbone: head, nothing more; stages=N, the last "
    "N stages; gradual, the last three and then all; full, all; auto, all where it may help. The validation images "
    "decide what is kept. (default: auto)",
    "preprocess": "Of pixels, inside the model: none, or fitted to the training images: mean_image, mean, standardize, "
    "pca or zca. (default: the architecture's)",
    "smoothing_over": "What label smoothing is spread over: 'all' classes or the 'others'. (default: the recipe's)",
    "optimizer": "sgd, momentum, nesterov, rmsprop, adam, adamw, lamb, lion, adafactor or muon. "
    "(default: the recipe's)",
    "schedule": "Of the learning rate: constant, step, plateau, cosine, cosine_restarts, polynomial, exponential or "
    "one_cycle. (default: the recipe's)",
    "batch_norm": "In layers that train: 'train', 'frozen' or 'recalibrate'. (default: the recipe's)",
    "dtype": f"float32, mixed_bfloat16 or mixed_float16 while training. (default: {Config.dtype})",
}


def read_config(values: flags.FlagValues, recipe: str) -> Config:
    """Return the recipe with the settings that the flags give.

    Raises:
        UserError: no such recipe, or a value that does not fit.
    """
    from kcnn import recipes

    overrides = {name: values[name].value for name in SETTINGS if name in values and values[name].present}
    if values.design or values.dropout is not None:
        design = overrides["design"] = dict(map(_parse_design, values.design))
        if values.dropout is not None and design.setdefault("dropout", values.dropout) != values.dropout:
            raise UserError("--dropout and --design dropout=: expected one of them")
    if values.augment is not None:
        overrides["augmentations"] = split_augmentations(values.augment)
    config = recipes.build(recipe, **overrides)
    if config.objective != Config.objective and "objective" not in values:
        raise UserError(f"--recipe {recipe}: its objective is {config.objective}; expected with pretrain")
    return config


def _parse_design(setting: str) -> tuple[str, Any]:
    name, separator, value = setting.partition("=")
    if not separator:
        raise UserError(f"--design {setting!r}: expected NAME=VALUE, as in --design width=0.5")
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value
