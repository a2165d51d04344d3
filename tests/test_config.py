"""Configs and recipes."""

import dataclasses

import pytest

from kcnn.config import Config, override
from kcnn.errors import UserError
from kcnn.optimizer_defaults import OPTIMIZER_DEFAULTS
from kcnn.recipes import RECIPES, build
from kcnn.training.optimizers import OPTIMIZERS


@pytest.mark.parametrize("recipe", RECIPES)
def test_json_keeps_everything(recipe):
    config = build(recipe, seed=7, image_size=64, design={"width": 0.5})
    assert Config.from_json(config.to_json()) == config


def test_overrides_reach_the_last_phase():
    config = build("finetune", epochs=3, learning_rate=0.5, batch_size=8, unfreeze=2)
    first, last = config.phases
    assert (last.epochs, last.learning_rate, last.unfreeze, config.batch_size) == (3, 0.5, 2, 8)
    own = RECIPES.get("finetune")().phases[0]
    assert first == dataclasses.replace(own, learning_rate=own.learning_rate / 2)  # a quarter of the batch
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
        ({"optimizer": "adamx"}, "did you mean 'adam'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"schedule": "one_cycle", "warmup": 0.1}, "--warmup with --schedule one_cycle: expected without"),
        ({"epocs": 3}, "did you mean 'epochs'"),
        ({"batch_norm": "off"}, "choose from train, frozen, recalibrate"),
        ({"seed": True}, "expected int"),
        ({"l2": -1e-4}, "--l2 -0.0001: expected 0 to 10; the nearest is 0"),
        ({"clip_norm": float("nan")}, "--clip_norm nan: expected 0 to"),
        ({"smoothing_over": "other"}, "did you mean 'others'"),
        ({"clip_norm": 1.0, "clip_adaptive": 0.01}, "--clip_norm and --clip_adaptive: expected one of them"),
        ({"ema": 0.9, "swa": 3}, "--ema and --swa: expected one of them"),
        ({"objective": "distill", "sam": 0.05}, "--sam: expected without a teacher"),
        ({"objective": "distill", "swa": 3}, "--swa: expected without a teacher"),
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


def rates(config):
    return [phase.learning_rate for phase in config.phases]


def test_rate_and_decay_follow_the_optimizer():
    """He et al., CVPR 2016: 0.1 for 256 images with momentum; AdamW's recipe has 2e-3 for 32."""
    momentum = build("scratch", optimizer="momentum", batch_size=256)
    assert (rates(momentum), momentum.weight_decay) == ([0.1], 1e-3)
    lion = build("scratch", optimizer="lion")
    assert (rates(lion), lion.weight_decay) == ([2e-4], 0.5)
    assert build("scratch", optimizer="adamw") == replaced(build("scratch"), optimizer="adamw")


def replaced(config, **overrides):
    return dataclasses.replace(config, overrides=overrides)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_says_of_its_own_optimizer_and_batch_stays(recipe):
    own = RECIPES.get(recipe)()
    config = build(recipe, optimizer=own.optimizer, batch_size=own.batch_size)
    assert (config.phases, config.weight_decay) == (own.phases, own.weight_decay)


def test_a_phase_at_a_lower_rate_keeps_its_ratio():
    first, last = rates(build("finetune", optimizer="momentum"))
    own_first, own_last = rates(build("finetune"))
    assert first / last == pytest.approx(own_first / own_last, rel=1e-3)
    assert last == pytest.approx(0.1 * 32 / 256 * own_last / 2e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("optimizer", "factor"),
    [("sgd", 4), ("momentum", 4), ("nesterov", 4), *((name, 2) for name in ("adam", "adamw", "lamb", "lion", "muon"))],
)
def test_rates_follow_the_batch(optimizer, factor):
    """Linear for gradient descent (Goyal et al., 2017), by the square root for others (You et al., 2020)."""
    (small,), (large,) = (rates(build("scratch", optimizer=optimizer, batch_size=size)) for size in (32, 128))
    assert large / small == pytest.approx(factor, rel=1e-3)


def test_what_the_user_gives_stays():
    config = build("scratch", optimizer="sgd", batch_size=64, learning_rate=0.3, weight_decay=0.2)
    assert (rates(config), config.weight_decay) == ([0.3], 0.2)
    later = override(build("scratch", learning_rate=0.3, weight_decay=0.2), optimizer="sgd", batch_size=64)
    assert (rates(later), later.weight_decay) == ([0.3], 0.2)


def test_the_flag_knows_all_optimizers():
    assert set(OPTIMIZER_DEFAULTS) == set(OPTIMIZERS)
