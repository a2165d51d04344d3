"""Recipes: named ways to train. A recipe is a function that returns a Config; `--recipe` selects it."""

from collections.abc import Callable
from typing import Any

from kcnn.config import Config, Phase, override
from kcnn.registry import Registry

RECIPES: Registry[Callable[[], Config]] = Registry("recipe")

# Epochs and rate are for heads with hidden layers; a linear head is solved.
_HEAD = Phase(
    "head", epochs=30, learning_rate=3e-3, unfreeze=0, augmentations=("flip",), crop_scale=(0.35, 1.0), views=4
)


@RECIPES.register("scratch")
def scratch() -> Config:
    """Train all weights from their random initialisation, in one phase."""
    return Config(
        recipe="scratch",
        phases=(
            Phase("all", epochs=40, learning_rate=2e-3, augmentations=("flip", "randaugment"), crop_scale=(0.35, 1.0)),
        ),
    )


@RECIPES.register("finetune")
def finetune() -> Config:
    """Solve the head on features of the frozen backbone; then train the whole network at a lower rate."""
    return Config(
        recipe="finetune",
        weights="auto",
        batch_norm="frozen",  # the solved head is for features as the loaded statistics make them
        patience=40,  # as many epochs as are chosen at most: the rate falls until the last
        phases=(
            _HEAD,
            Phase(
                "all",
                epochs=None,
                learning_rate=1e-3,
                rate_decay=0.8,
                size_ratio=0.7,
                augmentations=("flip",),
                crop_scale=(0.35, 1.0),
            ),
        ),
    )


@RECIPES.register("linear_probe")
def linear_probe() -> Config:
    """Train the head alone on frozen features, which measures the features."""
    return Config(
        recipe="linear_probe",
        weights="auto",
        phases=(_HEAD,),
    )


@RECIPES.register("pretrain")
def pretrain() -> Config:
    """Train a backbone that other networks start from, on images of formulas or on images without labels."""
    return Config(
        recipe="pretrain",
        dataset="fractals",
        batch_size=64,
        phases=(Phase("all", epochs=20, learning_rate=2e-3, augmentations=("flip",), crop_scale=(0.5, 1.0)),),
    )


@RECIPES.register("distill")
def distill() -> Config:
    """Train a backbone that other networks start from to answer crops of few pictures as a teacher does."""
    return Config(
        recipe="distill",
        dataset="pictures",
        weights="teacher",
        objective="distill",
        image_size=128,
        batch_size=64,
        weight_decay=0.01,
        phases=(
            Phase(
                "all",
                epochs=40,
                learning_rate=5e-5,  # for weights that are inherited; random ones take 2e-3
                warmup=0.02,
                augmentations=("colour", "cutmix"),
                crop_scale=(0.005, 1.0),
            ),
        ),
    )


def build(recipe: str, **overrides: Any) -> Config:
    """Return the Config of a recipe with the user's own settings.

    Raises:
        UserError: there is no such recipe or setting, or a value does not fit.
    """
    return override(RECIPES.get(recipe)(), **overrides)
