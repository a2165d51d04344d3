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
    ("setting", "message"),
    [
        ({"epochs": 0}, "--epochs 0: expected 1 to"),
        ({"learning_rate": -1.0}, "--learning_rate -1.0: expected"),
        ({"label_smoothing": 1.0}, "nearest is 0.999"),
        ({"batch_size": 2.5}, "expected int"),
        ({"optimizer": "adam"}, "did you mean 'adamw'"),
        ({"epocs": 3}, "did you mean 'epochs'"),
        ({"batch_norm": "off"}, "choose from train, frozen"),
        ({"seed": True}, "expected int"),
    ],
)
def test_mistakes(setting, message):
    with pytest.raises(UserError, match=message):
        override(build("scratch"), **setting)


def test_unknown_recipe():
    with pytest.raises(UserError, match="did you mean 'finetune'"):
        build("fine_tunes")
