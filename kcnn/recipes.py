"""Recipes: named ways to train. A recipe is one function that returns a Config; `--recipe` names it."""

from collections.abc import Callable
from typing import Any

from kcnn.config import Config, Phase, override
from kcnn.registry import Registry

RECIPES: Registry[Callable[[], Config]] = Registry("recipe")


@RECIPES.register("scratch")
def scratch() -> Config:
    """All weights from their random initialisation, in one phase."""
    return Config(
        recipe="scratch",
        phases=(
            Phase("all", epochs=40, learning_rate=2e-3, augmentations=("flip", "randaugment"), crop_scale=(0.35, 1.0)),
        ),
    )


@RECIPES.register("finetune")
def finetune() -> Config:
    """The head on a frozen backbone, from features computed once; then the whole network at a lower rate."""
    return Config(
        recipe="finetune",
        weights="auto",
        phases=(
            Phase("head", epochs=30, learning_rate=3e-3, unfreeze=0),
            Phase("all", epochs=20, learning_rate=3e-4, augmentations=("flip",), crop_scale=(0.35, 1.0)),
        ),
    )


@RECIPES.register("linear_probe")
def linear_probe() -> Config:
    """The head alone, on frozen features: what the features are worth."""
    return Config(
        recipe="linear_probe",
        weights="auto",
        phases=(Phase("head", epochs=100, learning_rate=3e-3, unfreeze=0),),
    )


@RECIPES.register("pretrain")
def pretrain() -> Config:
    """A backbone for others to start from, on formulas' images or on images without labels."""
    return Config(
        recipe="pretrain",
        dataset="fractals",
        batch_size=64,
        phases=(Phase("all", epochs=20, learning_rate=2e-3, augmentations=("flip",), crop_scale=(0.5, 1.0)),),
    )


def build(recipe: str, **overrides: Any) -> Config:
    """The Config of a recipe with the user's own settings.

    Raises:
        UserError: no such recipe or setting, or a value that does not fit.
    """
    return override(RECIPES.get(recipe)(), **overrides)
