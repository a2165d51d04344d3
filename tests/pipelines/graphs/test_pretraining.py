"""Pre-training by its command: on photos without labels, and what comes of it."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import kcnn
from kcnn.weights import save_weights
from tests.pipelines.engine import small_disks

MAIN = Path(__file__).parents[3] / "main.py"
ROTATION = ["--dataset", "photos", "--objective", "rotation", "--epochs", "8", "--augment", ""]
SMALL = ["--model", "lenet5", "--image_size", "32", "--batch_size", "16", "--offline"]


def run(*arguments, cwd, status=0):
    done = subprocess.run(
        [sys.executable, str(MAIN), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Photos in no folders, bright at the top, and a backbone that has learned to tell where that is."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "photos").mkdir()
    for index in range(120):
        rng = np.random.default_rng(index)
        sky = np.linspace(250, 20, 40)[:, None, None] + rng.normal(0, 20, (40, 40, 3))
        Image.fromarray(sky.clip(0, 255).astype(np.uint8)).save(folder / "photos" / f"{index}.png")
    (folder / "photos" / "broken.png").write_bytes(b"none")
    done = run("pretrain", *SMALL, *ROTATION, cwd=folder)
    return folder, done


def test_it_learns_without_labels_and_says_where_the_weights_are(workplace):
    folder, done = workplace
    assert "1 file excluded: broken.png" in done.stdout
    (weights,) = folder.glob(".kcnn/Pretrainer/backbone/*/backbone.safetensors")
    assert f"Weights: {weights.relative_to(folder)}" in done.stdout
    record = json.loads(weights.with_suffix(".json").read_text())
    assert record["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (record["objective"], record["classes"], record["seed"]) == ("rotation", 4, 0)
    assert "pretrain" in record["command"]
    assert record["hours"] > 0
    assert record["images"] < 120  # some are held out
    assert record["validation_accuracy"] > 0.5  # one in four by chance
    assert not any(key.startswith("head_") for key in load_file(weights))
    assert not (folder / "saved_models").exists()


def test_the_same_command_again_has_nothing_to_do(workplace):
    folder, first = workplace
    done = run("pretrain", *SMALL, *ROTATION, cwd=folder)
    assert "Pretrainer: unchanged" in done.stdout
    assert done.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]


@pytest.mark.slow
def test_what_it_made_is_a_start_for_the_main_job(workplace):
    folder, _ = workplace
    (weights,) = folder.glob(".kcnn/Pretrainer/backbone/*/backbone.safetensors")
    arguments = ["--recipe", "linear_probe", "--weights", weights, "--epochs", 2, "--to", "Trainer"]
    assert f"Weights: {weights}" in run(*SMALL, *arguments, cwd=folder).stdout
    (training,) = folder.glob(".kcnn/Trainer/model_run/*/training.json")
    assert json.loads(training.read_text())["weights"] == str(weights)


DISTILL = ["pretrain", *SMALL, "--dataset", "photos", "--objective", "distill", "--teacher", "lenet5"]


@pytest.mark.slow
def test_it_learns_a_teachers_answers(workplace):
    """The teacher has random weights, from a file."""
    folder, _ = workplace
    save_weights(kcnn.create_model("lenet5", 1000, 32), folder / "teacher.safetensors")
    weights = ["--weights", "none", "--teacher_weights", "teacher.safetensors"]
    done = run(*DISTILL, *weights, "--crops", 64, "--epochs", 1, cwd=folder)
    assert "Teacher: lenet5, weights: teacher.safetensors" in done.stdout
    assert "Agreement with lenet5: " in done.stdout
    made = Path(re.search("Weights: (.*)", done.stdout)[1])
    record = json.loads((folder / made).with_suffix(".json").read_text())
    assert record["objective"] == "distill"
    assert record["teacher"]["model"] == "lenet5"
    assert record["teacher"]["sha256"] == hashlib.sha256((folder / "teacher.safetensors").read_bytes()).hexdigest()
    assert not any(key.startswith("head_") for key in load_file(folder / made))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pretrain", "--objective", "rotatoin"], "did you mean 'rotation'"),
        (["--objective", "rotation"], "train does not read it"),
        (["pretrain", "--dataset", "photos"], "no class folders"),
        (["pretrain", "now"], "unexpected argument 'now'"),
        (["pretrain", "--teacher", "lenet5"], "--teacher lenet5: expected with --objective distill"),
        (["pretrain", "--crops", "64", "--dataset", "digits"], "--crops 64: expected with --objective distill"),
        (["pretrain", "--objective", "distill"], "expected --teacher, a model whose weights can be had"),
        ([*DISTILL[:-1], "lenet55"], "did you mean 'lenet5'"),
        ([*DISTILL], "ImageNet weights of lenet5"),
        ([*DISTILL, "--teacher_weights", "starter"], "starter weights of lenet5: there are none"),
        ([*DISTILL[:-1], "efficientnetlite0"], "--weights teacher: lenet5 has not the stages of efficientnetlite0"),
        ([*DISTILL[:-1], "mobilenetv2_0.35", "--teacher_weights", "starter"], "a classifier of 1000 classes"),
        (["--recipe", "distill"], "expected with pretrain"),
    ],
)
def test_mistakes(workplace, arguments, message, monkeypatch):
    monkeypatch.chdir(workplace[0])
    status, said = small_disks.call(*arguments)
    assert status == 2, said  # 1 for a traceback
    assert message in said
