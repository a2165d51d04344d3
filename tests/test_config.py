"""Configs and recipes."""

import pytest

from kcnn.config import Config, override
from kcnn.errors import UserError
from kcnn.recipes import RECIPES, build


@pytest.mark.parametrize("recipe", RECIPES)
def test_json_keeps_everything(recipe):
    config = build(recipe, seed=7, image_size=64, design={"width": 0.5})
    assert Config.from_json(config.to_json()) == config


def test_overrides_reach_the_last_phase():
    config = build("finetune", epochs=3, learning_rate=0.5, batch_size=8, unfreeze=2)
    first, last = config.phases
    assert (last.epochs, last.learning_rate, last.unfreeze, config.batch_size) == (3, 0.5, 2, 8)
    assert first == RECIPES.get("finetune")().phases[0]
    assert config.overrides == {"epochs": 3, "learning_rate": 0.5, "batch_size": 8, "unfreeze": 2}


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        ("auto", [0, None]),
        ("head", [0]),
        ("stages=2", [0, 2]),
        ("stages=0", [0]),
        ("gradual", [0, 3, None]),
        ("full", [0, None]),
    ],
)
def test_transfer_says_what_trains_after_the_head(transfer, expected):
    config = build("finetune", transfer=transfer)
    assert [phase.unfreeze for phase in config.phases] == expected
    assert len({phase.name for phase in config.phases}) == len(expected)
    assert config.transfer == transfer


def test_unfreeze_is_transfer_by_stages():
    fields = ("unfreeze", "learning_rate", "epochs", "augmentations", "crop_scale", "rate_decay")
    assert build("finetune", unfreeze=2).transfer == "stages=2"
    one, other = build("finetune", unfreeze=2).phases[-1], build("finetune", transfer="stages=2").phases[-1]
    assert [getattr(one, field) for field in fields] == [getattr(other, field) for field in fields]


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("finetune", {"transfer": "ful"}, "did you mean 'full'"),
        ("finetune", {"transfer": "stages"}, "--transfer 'stages'"),
        ("finetune", {"transfer": "stages=N"}, "expected a number of stages, as in --transfer stages=2"),
        ("finetune", {"transfer": "stages=-1"}, "--transfer 'stages=-1'"),
        ("finetune", {"transfer": "stages=2", "unfreeze": 2}, "expected one of the two"),
        ("scratch", {"transfer": "full"}, "expected with --finetune; the recipe is scratch"),
        ("linear_probe", {"transfer": "auto"}, "expected with --finetune"),
    ],
)
def test_mistakes_of_transfer(recipe, settings, message):
    with pytest.raises(UserError, match=message):
        build(recipe, **settings)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "--epochs 0: expected 1 to"),
        ({"learning_rate": -1.0}, "--learning_rate -1.0: expected"),
        ({"label_smoothing": 1.0}, "nearest is 0.999"),
        ({"batch_size": 2.5}, "expected int"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"epocs": 3}, "did you mean 'epochs'"),
        ({"batch_norm": "off"}, "choose from train, frozen, recalibrate"),
        ({"seed": True}, "expected int"),
    ],
)
def test_mistakes(setting, message):
    with pytest.raises(UserError, match=message):
        override(build("scratch"), **setting)


@pytest.mark.parametrize(
    ("recipe", "settings", "message"),
    [
        ("scratch", {"preprocess": "zac"}, "--preprocess 'zac': did you mean 'zca'"),
        ("scratch", {"preprocess": "torch"}, "--preprocess 'torch': choose from none, mean_image, mean, standardize"),
        ("scratch", {"channels": 2}, "--channels 2: choose from 1, 3"),
        ("finetune", {"preprocess": "zca"}, "--preprocess zca: pretrained weights .--weights auto. have a preprocess"),
        ("scratch", {"preprocess": "none", "weights": "starter"}, "expected --weights none, or a file"),
        ("distill", {"preprocess": "mean"}, "--preprocess mean: pretrained weights .--weights teacher."),
        ("finetune", {"channels": 1}, "--channels 1: pretrained weights"),
    ],
)
def test_mistakes_of_preprocessing(recipe, settings, message):
    with pytest.raises(UserError, match=message):
        build(recipe, **settings)


def test_preprocessing_of_its_own_goes_with_random_weights_and_with_a_file():
    assert build("finetune", preprocess="zca", channels=1, weights="none").preprocess == "zca"
    assert build("scratch", preprocess="pca", weights="w.safetensors").weights == "w.safetensors"
    assert (build("finetune", channels=3).channels, build("scratch").preprocess) == (3, None)


def test_unknown_recipe():
    with pytest.raises(UserError, match="did you mean 'finetune'"):
        build("fine_tunes")
