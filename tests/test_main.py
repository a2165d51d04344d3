"""The program as its user calls it: the main job on photos, prediction, mistakes.

TensorFlow takes seconds to load, so a process of its own runs only what needs one: signals, terminals, standard input.
"""

import contextlib
import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.command_line import run

MAIN = Path(__file__).parent.parent / "main.py"
SMALL = ["--model", "MobileNet_V2_0.35", "--image_size", "32", "--batch_size", "16", "--offline"]


def kcnn(*arguments, cwd, status=0, stdin=b""):
    command = [sys.executable, str(MAIN), *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, input=stdin, check=False)
    done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == status, done.stdout + done.stderr
    return done


def here(*arguments):
    """Return the status of the command in this process, which has TensorFlow already."""
    return run(["main.py", *map(str, arguments)])


def photo(path, hue, seed, size=(48, 36)):
    """Noise around a colour: two classes that a network tells apart at once."""
    pixels = np.random.default_rng(seed).normal(hue, 30, (size[1], size[0], 3)).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG" if seed % 3 else "JPEG")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Return a folder with photos of two classes, one broken, and the process that trained a model on them."""
    folder = tmp_path_factory.mktemp("work")
    for index in range(40):
        photo(folder / "photos" / "red fox" / f"{index}.jpg", (200, 60, 60), index)
        photo(folder / "photos" / "blåbær" / f"{index}.jpg", (60, 60, 200), 1000 + index, size=(30 + index, 41))
    (folder / "photos" / "red fox" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    done = kcnn(*SMALL, "--finetune", "--dataset", "photos", "--epochs", 2, "--seed", 3, cwd=folder)
    return folder, done


@pytest.fixture
def call(monkeypatch, capfd):
    """Return a function that runs a command in this process, in a folder, and returns what it prints: out and err."""

    def command(*arguments, cwd, status=0):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["main.py", *map(str, arguments)])
        capfd.readouterr()
        assert here(*arguments) == status
        return capfd.readouterr()

    return command


def test_the_main_job_says_what_it_did(workplace):
    _, done = workplace
    assert "Weights: starter" in done.stdout
    assert "1 file excluded: red fox/broken.jpg" in done.stdout
    assert "Published: saved_models/mobilenetv2_0.35/1" in done.stdout
    assert "I0000" not in done.stderr  # TensorFlow's chatter
    assert "Traceback" not in done.stderr


def test_the_card_tells_how_the_model_was_made(workplace):
    folder, _ = workplace
    card = json.loads((folder / "saved_models/mobilenetv2_0.35/1/assets.extra/card.json").read_text())
    assert card["labels"] == ["blåbær", "red fox"]
    assert card["seed"] == 3
    assert "--dataset photos" in card["command"]
    assert card["preprocessing"]["image_size"] == [32, 32]
    assert list(card["exclusions"]) == ["red fox/broken.jpg"]
    assert sum(sum(split.values()) for split in card["counts"].values()) == 80
    top1 = card["test_metrics"]["top1"]
    assert 0 <= top1["low"] <= top1["value"] <= top1["high"] <= 1
    assert "top5" not in card["test_metrics"]
    assert {"kcnn", "tensorflow", "keras", "keras-cv", "python"} <= set(card["versions"])


def test_nothing_but_finished_versions_is_published(workplace):
    folder, _ = workplace
    published = folder / "saved_models/mobilenetv2_0.35"
    assert [path.name for path in published.iterdir() if path.is_dir()] == ["1"]
    assert not list(published.glob(".*"))
    assert not list((folder / ".kcnn").glob("*/*/*.partial"))


def test_predict(workplace, call):
    folder, _ = workplace
    photo(folder / "new" / "a b.bin", (200, 60, 60), 77)
    (folder / "new" / "bad.jpg").write_bytes(b"bad")
    done = call(
        "predict", "saved_models/mobilenetv2_0.35", "new", "photos/blåbær/3.jpg", "--json", cwd=folder, status=2
    )
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["file"] for row in rows] == ["new/a b.bin", "new/bad.jpg", "photos/blåbær/3.jpg"]
    bad = rows.pop(1)
    assert set(bad) == {"file", "error"}
    assert done.err.splitlines()[-1] == "1 of 3 could not be answered"
    for row in rows:
        assert set(row) == {"file", "classes", "probabilities"}
        assert sorted(row["classes"]) == ["blåbær", "red fox"]
        assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_the_published_model_is_ready_for_tensorflow_serving(workplace):
    folder, _ = workplace
    published = folder / "saved_models/mobilenetv2_0.35"
    warmup = published / "1/assets.extra/tf_serving_warmup_requests"
    photos = [path.read_bytes() for path in (folder / "photos").rglob("*.jpg")]
    assert any(photo in warmup.read_bytes() for photo in photos)
    assert {path.name for path in published.iterdir() if path.is_file()} >= {"models.config", "compose.yaml"}


def test_rollback_and_labels(workplace, tmp_path, call):
    folder, _ = workplace
    source = folder / "saved_models/mobilenetv2_0.35/1"
    for number in ("1", "2"):
        shutil.copytree(source, tmp_path / "saved_models" / "m" / number)
    labels = tmp_path / "saved_models" / "m" / "2" / "assets" / "labels.txt"
    labels.write_text(labels.read_text().upper())
    done = call("label", "m", "stable=2", cwd=tmp_path)
    assert done.out.splitlines()[1:] == ["1", "2 (served)  stable, canary"]
    done = call("rollback", "m", "1", cwd=tmp_path)
    assert done.out.splitlines()[0] == "Published: saved_models/m/3, a copy of saved_models/m/1"
    config = (tmp_path / "saved_models/m/models.config").read_text()
    assert config.count("value: 3") == 2
    card = json.loads((tmp_path / "saved_models/m/3/assets.extra/card.json").read_text())
    assert card["rollback"]["command"].endswith("main.py rollback m 1")
    # The lineage of a copy is that of the version that was first published.
    found = json.loads(call("lineage", source, "--json", cwd=folder).out)
    copy = folder / "saved_models/mobilenetv2_0.35/77"
    shutil.copytree(source, copy)
    told = json.loads((copy / "assets.extra/card.json").read_text()) | {"rollback": {**card["rollback"], "copy_of": 1}}
    (copy / "assets.extra/card.json").write_text(json.dumps(told))
    again = json.loads(call("lineage", copy, "--json", cwd=folder).out)
    assert again["artifact"] == found["artifact"]
    assert again["rollback"]["replaces"] == 2
    tree = call("lineage", copy, cwd=folder).out.splitlines()
    assert tree[0].endswith("mobilenetv2_0.35/77: a copy of version 1")
    shutil.rmtree(copy)


def test_predict_reads_lists_patterns_and_standard_input(workplace):
    folder, _ = workplace
    photo = (folder / "photos/blåbær/3.jpg").read_bytes()
    arguments = ["predict", "mobilenetv2_0.35", "photos/red fox/1*.jpg", "-", "--csv", "--top", 1]
    done = kcnn(*arguments, cwd=folder, stdin=photo)
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[0] == ["file", "error", "class_1", "probability_1"]
    assert [row[0] for row in rows[1:]] == [*(f"photos/red fox/{n}.jpg" for n in (1, *range(10, 20))), "-"]
    assert all(row[1] == "" and 0.5 <= float(row[3]) <= 1 for row in rows[1:])
    assert done.stderr == ""
    names = "photos/blåbær/3.jpg\r\n\nphotos/blåbær/4.jpg\n"
    arguments = ["predict", "saved_models/mobilenetv2_0.35", "--files_from", "-", "--json"]
    done = kcnn(*arguments, cwd=folder, stdin=names.encode())
    assert [json.loads(line)["file"][-5:] for line in done.stdout.splitlines()] == ["3.jpg", "4.jpg"]


def start(*arguments, cwd, **options):
    return subprocess.Popen([sys.executable, str(MAIN), *map(str, arguments)], cwd=cwd, **options)


def test_predict_ends_cleanly_on_ctrl_c_a_closed_pipe_and_a_full_disk(workplace, tmp_path):
    folder, _ = workplace
    command = ["predict", folder / "saved_models/mobilenetv2_0.35", "--files_from"]
    (tmp_path / "list").write_text(f"{folder}/photos/blåbær/3.jpg\n" * 20000)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
    processes = [start(*command, "list", "--batch_size", 4, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline()
    processes[0].send_signal(signal.SIGINT)
    processes[1].stdout.close()
    assert processes[0].wait(60) == 130
    assert processes[0].stderr.read() == "\nInterrupted.\n"
    assert processes[1].wait(60) == -signal.SIGPIPE
    assert processes[1].stderr.read() == ""
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            done = start(*command, "list", stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
            assert done.wait(60) == 2
        assert done.stderr.read() == "main.py: error: standard output: No space left on device\n"


@pytest.mark.slow
def test_predict_shows_a_bar_on_a_terminal_alone(workplace, tmp_path):
    folder, _ = workplace
    (tmp_path / "many").mkdir()
    for index in range(2500):
        (tmp_path / "many" / f"{index}.jpg").symlink_to(folder / "photos/blåbær/3.jpg")
    terminal, inner = pty.openpty()
    process = start(
        *["predict", folder / "saved_models/mobilenetv2_0.35", "many", "--json"],
        **{"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": inner, "text": True},
    )
    os.close(inner)
    shown = []

    def look():
        with contextlib.suppress(OSError):  # of the terminal's end
            while part := os.read(terminal, 4096):
                shown.append(part)

    thread = threading.Thread(target=look)
    thread.start()
    rows = process.stdout.read().splitlines()
    assert process.wait(60) == 0
    thread.join()
    os.close(terminal)
    assert len(rows) == 2500
    assert all(set(json.loads(row)) == {"file", "classes", "probabilities"} for row in rows)
    bar = b"".join(shown).decode()
    assert re.search(r"Predicting: +\d+%\|.*\d+/2500 \[\d\d:\d\d<\d\d:\d\d", bar), bar[-500:]


def test_the_same_command_again_reuses_the_work_and_publishes_the_next_version(workplace, call):
    folder, _ = workplace
    arguments = [*SMALL, "--finetune", "--dataset", "photos", "--epochs", 2, "--seed", 3]
    done = call(*arguments, cwd=folder)
    assert "Trainer: unchanged" in done.out
    assert "Published: saved_models/mobilenetv2_0.35/2" in done.out


@pytest.mark.slow
def test_an_export_of_a_published_version_is_made_of_the_same_training(workplace, call):
    folder, _ = workplace
    again = call("export", "saved_models/mobilenetv2_0.35/1", "--optimize_for", "size", cwd=folder)
    assert "Trainer: at work" not in again.out
    before = folder / "saved_models/mobilenetv2_0.35/1"
    after = folder / re.search(r"Published: (\S+)", again.out)[1]
    cards = [json.loads((version / "assets.extra/card.json").read_text()) for version in (before, after)]
    assert cards[1]["exported_from"] == "saved_models/mobilenetv2_0.35/1"
    assert [card["export"]["optimize_for"] for card in cards] == ["latency", "size"]
    same = ("dataset", "fingerprint", "labels", "counts", "config", "weights", "preprocessing", "calibration")
    assert [cards[0][name] for name in same] == [cards[1][name] for name in same]
    size = [sum(file.stat().st_size for file in version.rglob("*")) for version in (before, after)]
    assert size[1] < 0.8 * size[0]
    made_of = json.loads(call("lineage", after, "--json", cwd=folder).out)
    assert {"ExampleGen", "Trainer", "Exporter"} <= {row["component"] for row in made_of["executions"]}


@pytest.mark.slow
def test_finetuning_from_a_file_is_head_first(workplace, call):
    folder, _ = workplace
    (weights,) = folder.glob(".kcnn/Trainer/model_run/*/weights.safetensors")
    tuning = ["--finetune", "--weights", weights, "--unfreeze", 2, "--batch_norm", "frozen", "--epochs", 1]
    done = call(*SMALL, *tuning, "--dataset", "photos", "--name", "tuned", "--to", "Trainer", cwd=folder)
    assert "Frozen features" in done.err
    (record,) = (
        path for path in folder.glob(".kcnn/Trainer/model_run/*/training.json") if str(weights) in path.read_text()
    )
    training = json.loads(record.read_text())
    assert training["weights"] == str(weights)
    history = training["history"]
    assert (history[0]["phase"], history[-1]["phase"]) == (0, 1)
    assert max(row["val_accuracy"] for row in history) > 0.5


@pytest.mark.slow
def test_ctrl_c_and_resume(workplace, call):
    folder, _ = workplace
    lenet = ["--model", "lenet5", "--image_size", "32", "--batch_size", "16", "--offline", "--to", "Trainer"]
    arguments = [*lenet, "--dataset", "photos", "--epochs", "8", "--patience", "8", "--name", "resumed"]
    process = subprocess.Popen(
        [sys.executable, str(MAIN), *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def written(name):
        return max(
            (path.stat().st_mtime_ns for path in folder.glob(f".kcnn/Trainer/model_run/*.partial/{name}")), default=0
        )

    deadline = time.monotonic() + 240
    # The first epoch is over once its state, which comes behind the best weights, is written.
    while not 0 < written("best.safetensors") < written("state.safetensors") and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "The same command goes on from what Trainer last saved." in stderr
    assert "Traceback" not in stderr

    done = call(*arguments, cwd=folder)
    assert "Resuming after" in done.out
    runs = folder.glob(".kcnn/Trainer/model_run/*/config.json")
    (record,) = (path.with_name("training.json") for path in runs if "lenet5" in path.read_text())
    assert len(json.loads(record.read_text())["history"]) == 8
    assert not list(folder.glob(".kcnn/*/*/*.partial"))


def test_help_is_by_command(tmp_path, call):
    everything = call("--help", cwd=tmp_path).out
    assert "Flags of train, pretrain, probe, find_rate, data, preview:" in everything
    assert "--[no]finetune: " in everything
    of_models = call("models", "--help", cwd=tmp_path).out
    assert [line.split(":")[0].strip() for line in of_models.splitlines() if line.startswith("  --")] == [
        "--family",
        "--max_params",
        "--max_macs",
        "--[no]json",
    ]


def test_models(tmp_path, call):
    def printed(*arguments):
        return call("models", *arguments, cwd=tmp_path).out.splitlines()

    rows = [json.loads(line) for line in printed("--json")]
    by_name = {row["name"]: row for row in rows}
    assert {"vgg16", "inceptionv3", "resnet50", "mobilenetv2"} <= set(by_name)
    # He et al., CVPR 2016, Table 1: 3.8e9 multiply-adds; torchvision's and Keras' counts are 4.1e9 and 3.9e9
    assert by_name["resnet50"]["macs"] == pytest.approx(3.8e9, rel=0.03)
    assert by_name["resnet50"]["weights"] == ["keras"]
    assert by_name["resnet50.torch"]["weights"] == ["torchvision", "timm"]
    assert by_name["efficientnetlite0"]["offline"] == ["imagenet"]
    assert by_name["mobilenetv2"]["offline"][-1] == "starter"
    assert by_name["lenet5"]["offline"] == []
    lines = printed("vgg16")
    assert lines[0].split()[:5] == ["name", "year", "params", "mult-adds", "input"]
    assert lines[1].split()[:9] == ["vgg16", "2014", "138.36", "M", "15.470", "G", "224", "71.3", "90.1"]
    small = printed("--json", "--max_params", "4", "--max_macs", "0.1")
    expected = {row["name"] for row in rows if row["params"] <= 4e6 and row["macs"] <= 1e8}
    assert {json.loads(line)["name"] for line in small} == expected
    assert "mobilenetv2_0.35" in expected
    family = printed("--json", "--family", "densenet")
    assert {json.loads(line)["name"] for line in family} >= {"densenet121", "densenet169", "densenet201", "densenet264"}


MISTAKES = [
    (["--model", "resnet51"], "unknown model 'resnet51': did you mean"),
    (["--dataset", "./nothing"], "no such file or directory"),
    (["--dataset", "cifar1O", "--offline"], "did you mean cifar10"),
    (["--dataset", "empty"], "the folder is empty"),
    (["--dataset", "one"], "only one class"),
    (["--dataset", "texts"], "none of its 4 files is an image"),
    (["--saved_models", "/dev/null/x"], "--saved_models /dev/null/x"),
    (["--epochs", "0"], "--epochs 0: expected 1 to"),
    (["--epochs", "many"], "--epochs"),
    (["--image_size", "16"], "at least 32"),
    (["--weights", "none.safetensors", "--finetune"], "none.safetensors"),
    (["--weights", "texts/a/1.txt", "--finetune"], "texts/a/1.txt"),
    (["--learning_rat", "1"], "Did you mean: learning_rate"),
    (["--design", "widht=0.5"], "width"),
    (["--finetune", "--recipe", "scratch"], "expected one of the two"),
    (["--name", "a/b"], "--name 'a/b'"),
    (["models", "--family", "resnt"], "--family 'resnt': did you mean 'resnet'"),
    (["models", "resnet51"], "unknown model 'resnet51': did you mean"),
    (["--augment", "randaugmnt"], "did you mean 'randaugment'"),
    (["--augment", "cutmix(alfa=1)"], "unknown argument 'alfa' of cutmix: did you mean 'alpha'?"),
    (["preview", "--images", "0"], "--images 0: expected 1 to 240; the nearest is 1"),
    (["preview", "--output", "a.gif"], "--output a.gif: expected a PNG"),
    (["--beam_runner", "Fink"], "--beam_runner 'Fink': choose from DirectRunner, FlinkRunner, SparkRunner, Dataflow"),
    (["data", "--beam_options", "--x=1"], "--beam_options --x=1: expected with --beam_runner"),
    (["trian"], "did you mean 'train'"),
    (["--family", "resnet"], "--family: train does not read it; it goes with models"),
    (["data", "--resume"], "--resume: data does not read it; it goes with train, pretrain"),
    (["--json"], "--json: train does not read it; it goes with predict, probe, models, lineage, runs"),
    (["predict", "empty", "a.jpg"], "no saved model"),
    (["predict", "empty"], "expected a model and pictures"),
    (["predict"], "expected a model and pictures"),
    (["predict", "models/lenet", "a.jpg"], "did you mean 'models/lenet5'"),
    (["predict", "models/lenet5", "a.jpg"], "the saved model in 'models/lenet5/1' cannot be loaded"),
    (["predict", "empty", "a.jpg", "--top", "0"], "--top 0: expected 1 or more"),
    (["predict", "empty", "a.jpg", "--batch_size", "-1"], "--batch_size -1: expected 1 or more"),
    (["predict", "empty", "a.jpg", "--json", "--csv"], "--json and --csv: expected one of the two"),
    (
        ["predict", "empty", "https://example.com/a.jpg"],
        "predict https://example.com/a.jpg: a URL; expected a file, or",
    ),
    (["predict", "empty", "a.jpg", "--allow_private_redirects"], "expected with --allow_urls"),
    (["predict", "empty", "--files_from", "missing.txt"], "--files_from missing.txt: no such file"),
    (["predict", "empty", "--files_from", "empty"], "--files_from empty: a folder; expected a list"),
    (["predict", "empty", "-", "--files_from", "-"], "standard input can be read once"),
    (["predict", "empty", "a.jpg", "--finetune"], "--finetune: predict does not read it; it goes with train"),
    (["rollback", "lenet5"], "rollback: expected a model's name and a version"),
    (["rollback", "lenet5", "one"], "rollback: expected a model's name and a version"),
    (
        ["rollback", "lenet", "1", "--saved_models", "models"],
        "no published model in models/lenet: did you mean 'lenet5'",
    ),
    (["rollback", "lenet5", "2", "--saved_models", "models"], "models/lenet5: no version 2; there are 1"),
    (["rollback", "lenet5", "1", "--saved_models", "models"], "models/lenet5/1: is served already"),
    (["label"], "label: expected a model's name"),
    (["label", "lenet5"], "no published model in saved_models/lenet5: there is none"),
    (["label", "models/lenet5", "stabel=1"], "label 'stabel': did you mean 'stable'"),
    (["label", "models/lenet5", "stable"], "label 'stable': expected LABEL=VERSION, as in stable=3"),
    (["label", "models/lenet5", "stable=4"], "no version 4; there are 1"),
]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capfd):
    from kcnn.serving.publishing import folder_files

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    for number in ("1", "2"):
        (tmp_path / "m" / number).mkdir(parents=True)
        (tmp_path / "m" / number / "saved_model.pb").write_text(number)
    monkeypatch.setattr(folder_files.tempfile, "NamedTemporaryFile", full)
    for arguments in (["label", f"{tmp_path}/m", "stable=1"], ["rollback", f"{tmp_path}/m", "1"]):
        assert here(*arguments) == 2
        assert capfd.readouterr().err == f"main.py: error: {tmp_path}/m: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("arguments", "message"), MISTAKES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_mistakes_get_one_line_and_leave_nothing(arguments, message, tmp_path, monkeypatch, capfd):
    (tmp_path / "empty").mkdir()
    (tmp_path / "models" / "lenet5" / "1").mkdir(parents=True)
    (tmp_path / "models" / "lenet5" / "1" / "saved_model.pb").write_bytes(b"torn")
    photo(tmp_path / "one" / "cat" / "a.png", 50, 1)
    for name in ("a/1.txt", "a/2.txt", "b/1.txt", "b/2.txt"):
        (tmp_path / "texts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "texts" / name).write_text("text")
    before = sorted(map(str, tmp_path.rglob("*")))
    monkeypatch.chdir(tmp_path)
    assert here(*arguments) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("main.py: error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    after = [path for path in sorted(map(str, tmp_path.rglob("*"))) if ".kcnn" not in path]
    assert after == before
    assert os.getcwd() == str(tmp_path)
