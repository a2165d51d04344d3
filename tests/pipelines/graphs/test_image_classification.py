"""The main job's decisions before and after training."""

import dataclasses
from pathlib import Path

import pytest

import kcnn
from kcnn.config import Phase
from kcnn.data.ingestion.summary import Summary
from kcnn.errors import UserError
from kcnn.recipes import build
from kcnn.serving.publishing.versions import next_version
from kcnn.training.adaptation import adapt_config, adapt_phase, choose_image_size, choose_preprocessing
from kcnn.weights import save_weights
from pipelines.graphs.preflight import check_writable, settle_weights

SUMMARY = Summary(("a", "b"), {}, {}, (), mean_bytes=1000, median_side=400, mirror=True)


@pytest.mark.parametrize(
    ("model", "side", "expected"),
    [
        ("mobilenetv2", 8, 64),  # digits
        ("mobilenetv2", 32, 64),  # CIFAR
        ("mobilenetv2", 50, 128),
        ("mobilenetv2", 400, 224),
        ("inceptionv3", 8, 75),
        ("inceptionv3", 4000, 299),
    ],
)
def test_image_size_follows_the_data_within_what_the_network_takes(model, side, expected):
    assert choose_image_size(kcnn.model_spec(model), 2 * side) == expected


@pytest.mark.parametrize(
    ("weights", "side", "expected"),
    [
        (None, 8, 64),
        ("starter", 8, 96),
        ("imagenet", 28, 128),
        ("starter", 32, 128),
        ("imagenet", 50, 128),
        ("imagenet", 80, 160),
        ("imagenet", 400, 224),
        ("backbone.safetensors", 32, 64),
    ],
)
def test_weights_that_learned_from_photos_have_small_images_enlarged(weights, side, expected):
    summary = dataclasses.replace(SUMMARY, median_side=side)
    found = choose_preprocessing(kcnn.model_spec("mobilenetv2"), summary, weights=weights)
    assert found.image_size == (expected, expected)


def test_digits_are_not_mirrored_and_small_images_not_cropped_away():
    phase = Phase("all", 1, 0.1, augmentations=("flip", "randaugment"), crop_scale=(0.35, 1.0), size_ratio=0.7)
    assert adapt_phase(phase, SUMMARY) == phase
    digits = adapt_phase(phase, dataclasses.replace(SUMMARY, median_side=8, mirror=False))
    assert digits.augmentations == ("randaugment",)
    given = dataclasses.replace(phase, augmentations=("randaugment(n=3)", "flip", "cutmix(alpha=0.5)"))
    spared = adapt_phase(given, dataclasses.replace(SUMMARY, mirror=False))
    assert spared.augmentations == ("randaugment(n=3)", "cutmix(alpha=0.5)")
    assert digits.crop_scale == (0.7, 1.0)
    assert (digits.size_ratio, adapt_phase(phase, SUMMARY).size_ratio) == (1.0, 0.7)
    assert adapt_phase(dataclasses.replace(phase, crop_scale=None), SUMMARY).crop_scale is None


@pytest.mark.parametrize(
    ("count", "given", "batch", "rate"),
    [
        (40, {}, 8, 5e-4),  # AdamW's rate follows the root of the batch: 1e-3 is for 32 images
        (504, {}, 16, 1e-3 * 2**-0.5),
        (5000, {}, 32, 1e-3),
        (40, {"learning_rate": 0.2}, 8, 0.2),
        (40, {"batch_size": 32}, 32, 1e-3),
        (40, {"epochs": 3}, 32, 1e-3),
    ],
)
def test_few_images_are_tuned_on_in_small_batches(count, given, batch, rate):
    summary = dataclasses.replace(SUMMARY, counts={"train": {"a": count - 5, "b": 5}})
    config = adapt_config(build("finetune", **given), summary, (96, 96))
    assert (config.batch_size, config.phases[-1].learning_rate) == (batch, pytest.approx(rate, rel=1e-3))
    assert config.overrides == given


def test_from_random_weights_the_batch_is_the_recipes():
    summary = dataclasses.replace(SUMMARY, counts={"train": {"a": 35, "b": 5}})
    assert adapt_config(build("scratch"), summary, (96, 96)).batch_size == 32


@pytest.mark.parametrize("weights", ["none", "auto"])
def test_without_weights_nothing_is_frozen(weights, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    asked = {
        "model": "mobilenetv2_0.5",
        "weights": weights,
        "epochs": 7,
        "learning_rate": 0.01,
        "unfreeze": 2,
        "offline": True,
        "seed": 5,
    }
    config, found = settle_weights(build("finetune", **asked))
    assert found is None
    (phase,) = config.phases
    assert (phase.epochs, phase.learning_rate, phase.unfreeze, config.seed) == (7, 0.01, None, 5)
    (line,) = capsys.readouterr().out.splitlines()
    assert "from scratch" in line


@pytest.mark.parametrize("recipe", ["pretrain", "scratch", "finetune", "linear_probe"])
@pytest.mark.parametrize("asked", [{"weights": "auto"}, {"weights": "none", "unfreeze": 2, "batch_norm": "frozen"}])
def test_training_from_scratch_keeps_all_but_what_is_for_weights(recipe, asked, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    given = {"model": "mobilenetv2_0.5", "learning_rate": 0.01, "offline": True, **asked}
    before = dataclasses.replace(build(recipe, **given), label_smoothing=0.3)  # as a recipe of one's own might set it
    config, weights = settle_weights(before)
    (line,) = capsys.readouterr().out.splitlines()
    assert weights is None
    assert ("without --unfreeze 2 and --batch_norm frozen" in line) == ("unfreeze" in asked)
    schedule = build("scratch" if recipe in ("finetune", "linear_probe") else recipe, learning_rate=0.01)
    assert (config.recipe, config.phases) == (schedule.recipe, schedule.phases)
    assert config.overrides == {name: given[name] for name in ("model", "learning_rate", "offline")}
    changed = {"recipe", "phases", "weights", "overrides"}
    changed |= {"batch_norm", "patience"} if recipe == "finetune" else {"batch_norm"} & asked.keys()
    for field in dataclasses.fields(config):
        if field.name not in changed:
            assert getattr(config, field.name) == getattr(before, field.name), field.name
    assert (config.weights, config.batch_norm) == ("none", "train")
    if recipe == "pretrain":
        assert (config.dataset, config.batch_size) == ("fractals", 64)


def test_the_starter_comes_behind_imagenet_and_before_scratch(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert settle_weights(build("finetune", offline=True))[1] == "starter"
    assert "Weights: starter" in capsys.readouterr().out
    assert settle_weights(build("finetune", offline=True, design={"activation": "silu"}))[1] is None
    (line,) = capsys.readouterr().out.splitlines()
    assert "starter weights of mobilenetv2: they are for its default design" in line
    with pytest.raises(UserError, match="default design"):
        settle_weights(build("finetune", weights="starter", design={"activation": "silu"}))

    cached = tmp_path / "models" / Path(kcnn.model_spec("mobilenetv2").application.imagenet).name
    cached.parent.mkdir()
    cached.write_bytes(b"half a download")
    assert settle_weights(build("finetune", offline=True))[1] == "starter"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("Weights: starter (")  # and why it is not ImageNet's, which were tried first
    assert f"{cached.name}' cannot be read" in line


def test_weights_asked_for_are_used_or_refused(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    save_weights(kcnn.create_model("mobilenetv2_0.35", 3, 32), path)
    config = build("finetune", model="mobilenetv2_0.35", weights=str(path))
    assert settle_weights(config) == (config, str(path))
    assert str(path) in capsys.readouterr().out
    with pytest.raises(UserError, match="do not fit"):
        settle_weights(build("finetune", model="mobilenetv2_0.5", weights=str(path)))
    with pytest.raises(UserError, match="ImageNet weights of resnet18"):
        settle_weights(build("finetune", model="resnet18", weights="imagenet", offline=True))


def test_versions_count_up(tmp_path):
    assert next_version(tmp_path / "none") == 1
    for name in ("1", "9", "10", "notes", ".123.partial"):
        (tmp_path / name).mkdir()
    assert next_version(tmp_path) == 11


def test_what_cannot_be_written_is_known_before_the_work(tmp_path):
    check_writable("--saved_models", tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "x", "/proc/x"):
        with pytest.raises(UserError, match=r"--saved_models .* cannot be written"):
            check_writable("--saved_models", tmp_path / folder)
