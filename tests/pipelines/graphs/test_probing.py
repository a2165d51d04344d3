"""probe by its command, and the choice of `--model auto`."""

import json

import numpy as np
import pytest
from PIL import Image

import kcnn
from kcnn.errors import UserError
from kcnn.recipes import build
from kcnn.training.probing import stage_outputs
from kcnn.weights import find_pretrained
from pipelines import command_line
from pipelines.artifacts.examples import Examples
from pipelines.graphs.model_choice import settle_model


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Two classes of 20 photos: stripes across, and stripes down."""
    folder = tmp_path_factory.mktemp("work")
    for label in ("across", "down"):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(20):
            rng = np.random.default_rng(index)
            wave = 127 + 100 * np.sin(np.arange(40) * rng.uniform(0.4, 1.5) + rng.uniform(0, 6))
            pixels = np.tile(wave[:, None, None], (1, 40, 3)) + rng.normal(0, 20, (40, 40, 3))
            pixels = pixels if label == "across" else pixels.transpose(1, 0, 2)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / "photos" / label / f"{index}.png")
    return folder


def probe(folder, *arguments):
    flags = ["--dataset", folder / "photos", "--pipeline_root", folder / "root", "--image_size", 32, "--offline"]
    return command_line.run(["main.py", "probe", *map(str, [*flags, *arguments])])


def test_it_ranks_the_stages_of_backbones(workplace, capsys):
    assert probe(workplace, "--models", "mobilenetv2_0.35", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    network = kcnn.create_model("mobilenetv2_0.35", 2, 32)
    assert {row["stage"] for row in rows} == set(stage_outputs(network))
    assert [row["accuracy"] for row in rows] == sorted((row["accuracy"] for row in rows), reverse=True)
    (examples,) = (workplace / "root" / "ExampleGen" / "examples").iterdir()
    summary = Examples(examples).summary()
    assert summary.total("test") > 0
    assert {row["judged"] for row in rows} == {summary.total("train") + summary.total("val")}
    assert all(row["low"] <= row["accuracy"] <= row["high"] and row["latency_ms"] > 0 for row in rows)
    (whole,) = (row for row in rows if row["stage"] == list(stage_outputs(network))[-1])
    assert whole["params"] == network.count_params()
    assert rows[0]["accuracy"] > 0.9
    assert list((workplace / "root" / "Prober" / "results").glob("*/probe.png"))
    assert not list((workplace / "root" / "Prober" / "results").glob("*/features.npy"))

    assert probe(workplace, "--models", "mobilenetv2_0.35") == 0  # again, for people
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("Best: mobilenetv2_0.35 to ") for line in lines)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("mobilenetv9", "mobilenetv2"),
        ("zfnet", "--models zfnet: no pretrained weights to be had; there are those of "),
    ],
)
def test_mistakes(workplace, capsys, models, message):
    assert probe(workplace, "--models", models) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error


def test_auto_takes_a_larger_network_for_few_images(workplace, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    few = settle_model(build("finetune", model="auto", dataset=str(workplace / "photos")), None)
    many = settle_model(build("finetune", model="auto", dataset="digits"), None)
    assert kcnn.model_spec(many.model).macs < 0.5e9
    lite = [kcnn.model_spec(f"efficientnetlite{size}") for size in range(3)]
    assert few.model == [spec.name for spec in lite if "imagenet" in find_pretrained(spec, offline=True)][-1]


def test_auto_takes_the_most_accurate_that_is_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    config = settle_model(build("finetune", model="auto", image_size=64), None)
    spec = kcnn.model_spec(config.model)
    assert spec.family == "efficientnetlite"
    assert f"Model: {config.model}, the most accurate on ImageNet ({spec.top1}%)" in capsys.readouterr().out
    assert settle_model(build("finetune", model="auto", weights="starter"), None).model == "mobilenetv2"
    smallest = settle_model(build("finetune", model="auto", image_size=64), 1e-6)
    assert "the smallest" in capsys.readouterr().out
    assert smallest.model == "efficientnetlite0"
    with pytest.raises(UserError, match="expected --weights auto, imagenet or starter"):
        settle_model(build("finetune", model="auto", weights="x.h5"), None)
