"""A training that is killed anywhere, or finds its state damaged, ends with the weights of an undisturbed one."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from kcnn.data import examples
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import ingest
from kcnn.errors import UserError
from kcnn.training.state import Progress, load_progress, load_state, save_state

PROGRAM = Path(__file__).with_name("killed_training.py")
STEPS = 4  # of an epoch of the killed training


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Return a folder with some digits, and the facts of their TrainingData."""
    folder = tmp_path_factory.mktemp("killed")
    summary = ingest.ingest(open_dataset("digits"), folder / "examples")
    facts = {
        "train": examples.shard_paths(folder / "examples", "train"),
        "val": examples.shard_paths(folder / "examples", "val"),
        "train_count": 64 * STEPS,
        "val_count": summary.total("val"),
        "classes": 10,
        "mean_bytes": summary.mean_bytes,
    }
    (folder / "data.json").write_text(json.dumps(facts))
    return folder


def run(folder, trainings):
    """Train in a process for each kill and one more; return the weights that each folder ends with, as bytes."""
    command = [sys.executable, str(PROGRAM), str(folder), json.dumps(trainings)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: (folder / name / "best.safetensors").read_bytes() for name, _ in trainings}


def test_a_kill_within_an_epoch_changes_no_bit(workplace):
    """With dropout, batch norm, averages of the weights and augmentations of images and batches."""
    whole, killed = run(workplace, [["whole", []], ["killed", [["step", STEPS + 3]]]]).values()
    assert killed == whole
    histories = [load_progress(workplace / name / "state.safetensors").history for name in ("whole", "killed")]
    for row in (row for history in histories for row in history):
        del row["seconds"]
    assert histories[0] == histories[1]


@pytest.mark.slow
def test_kills_anywhere_change_no_bit(workplace):
    trainings = [["undisturbed", []]]
    trainings += [[f"steps{n}", [["step", n], ["step", 2]]] for n in range(1, 2 * STEPS)]
    trainings += [[f"replaced{n}", [["replace", n], ["replace", 3]]] for n in range(1, 20, 3)]
    whole, *others = run(workplace, trainings).values()
    assert {other == whole for other in others} == {True}


def small_model(value):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, kernel_initializer="ones", name="only")])
    model.get_layer("only").kernel.assign(np.full((2, 3), value))
    return model


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x55"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
    ],
    ids=["cut", "one byte", "empty", "gone"],
)
def test_a_damaged_state_gives_way_to_the_one_before_it(tmp_path, damage, capsys):
    path = tmp_path / "state.safetensors"
    for value in (1.0, 2.0):
        save_state(path, Progress(step=int(value)), {"model": small_model(value).variables})
    assert load_progress(path).step == 2
    damage(path)
    was_there = path.exists()
    assert load_progress(path).step == 1
    assert ("damaged" in capsys.readouterr().out) == was_there
    model = small_model(0.0)
    load_state(path, {"model": model.variables})
    np.testing.assert_array_equal(model.get_weights()[0], np.full((2, 3), 1.0))


def test_without_a_whole_state_the_user_decides(tmp_path):
    path = tmp_path / "state.safetensors"
    assert load_progress(path) is None
    save_state(path, Progress(), {"model": small_model(1.0).variables})
    shutil.copy(path, tmp_path / "state-before.safetensors")
    for each in tmp_path.iterdir():
        each.write_bytes(b"no state")
    with pytest.raises(UserError, match=r"damaged.*--noresume"):
        load_progress(path)
