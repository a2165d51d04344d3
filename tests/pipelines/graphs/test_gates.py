"""Evaluator, InfraValidator and Pusher as gates: what they bless, what they refuse, and what is left in the folder."""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import unittest.mock
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from kcnn import content
from kcnn.checks import Check
from kcnn.config import Phase
from kcnn.data.examples import Example
from kcnn.data.ingestion.summary import Summary
from kcnn.errors import RefusedError, UserError
from kcnn.recipes import build
from kcnn.serving.publishing import bundle, versions
from kcnn.serving.publishing.rollback import republish_version
from pipelines.artifacts.blessing import InfraBlessing, ModelBlessing
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.serving import Model
from pipelines.artifacts.training import ModelRun
from pipelines.components import evaluator as evaluator_module
from pipelines.components.evaluator import evaluator
from pipelines.components.gate import gate
from pipelines.components.infra_validator import infra_validator
from pipelines.components.pusher import pusher
from pipelines.engine import runner
from pipelines.engine.component import Output, component
from pipelines.graphs import image_classification
from pipelines.graphs.preflight import check_gates, last_pushed
from pipelines.graphs.publication import Publication
from pipelines.reports import lineage
from pipelines.reports.runs import list_runs
from tests import shards

ROOT = Path(__file__).parents[3]
LABELS = ("cat", "dog")
COUNT = 120  # test images: of either class 60, of either size 60; the i-th is as hard as i


def picture(index):
    """Draw a picture that shows its class in red, how hard it is in green."""
    side = 10 if index % 4 < 2 else 40
    file = io.BytesIO()
    Image.new("RGB", (side, side), (100 * (index % 2), index, 0)).save(file, "PNG")
    return file.getvalue(), side


class Threshold(tf.Module):
    """Right for images less hard than `right`, but for those of the class `blind` that are harder than 60."""

    def __init__(self, right, blind):
        self.right, self.blind = right, blind

    def answer(self, pixels):
        truth, hard = tf.cast(pixels[:, 0] > 50, tf.int32), tf.cast(pixels[:, 1], tf.int32)
        good = (hard < self.right) & ~((truth == self.blind) & (hard > 60))
        return {"probabilities": 0.2 + 0.6 * tf.one_hot(tf.where(good, truth, 1 - truth), 2)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def encoded(self, image_bytes):
        spec = tf.TensorSpec([3], tf.uint8)
        return self.answer(tf.map_fn(lambda b: tf.io.decode_png(b, 3)[0, 0], image_bytes, fn_output_signature=spec))

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")])
    def images(self, images):
        return self.answer(images[:, 0, 0])


@component
def example_gen(examples: Output[Examples]) -> None:
    def example(index):
        encoded, side = picture(index)
        digest = hashlib.sha256(encoded).hexdigest()
        return Example(
            encoded,
            f"{index}.png",
            index % 2,
            LABELS[index % 2],
            "PNG",
            side,
            side,
            digest,
            {"site": f"s{index // 110}"},
        )

    shards.write(examples.path, "test", list(map(example, range(COUNT))))
    shards.write(examples.path, "train", list(map(example, range(2))))
    counts = {"train": dict.fromkeys(LABELS, 1), "val": {}, "test": dict.fromkeys(LABELS, COUNT // 2)}
    examples.write_summary(Summary(LABELS, counts, {}, (), mean_bytes=100, median_side=10, mirror=True))


@component
def trainer(
    right: int, blind: int, labels: list[str], examples: Examples, model_run: Output[ModelRun], model: Output[Model]
) -> None:
    """Make what Trainer and Exporter make."""
    module = Threshold(right, blind)
    tf.saved_model.save(
        module, str(model.serving), signatures={"serving_default": module.encoded, "images": module.images}
    )
    (model.serving / "assets" / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    (model_run.path / "config.json").write_text(build("scratch").to_json())
    training = {"weights": None, "weights_loaded": [], "preprocessing": {}, "seconds": 1.0, "best": None, "history": []}
    training["weights_origin"] = {"repo": "timm/m", "license": "mit"}
    (model_run.path / "training.json").write_text(json.dumps(training))
    model_run.weights.write_bytes(b"")
    model.write(
        {"calibration": {"temperature": 1.0}, "export": {"formats": ["savedmodel"]}, "checksums": {"weights": ""}}
    )


@component
def infra_blesser(slow: bool, model: Model, blessing: Output[InfraBlessing]) -> None:
    """Bless without a process with TensorFlow, which the real one takes."""
    blessing.write([Check("latency", not slow, "95% of 200 requests of one image within 9 ms")], {})


def run(
    folder,
    right=COUNT,
    blind=-1,
    labels=LABELS,
    slow=False,
    real=None,
    min_accuracy=0.0,
    min_slice_accuracy=0.0,
    **push,
):
    """Run the graph; returns what was made."""
    examples = example_gen().outputs["examples"]
    trained = trainer(right=right, blind=blind, labels=list(labels), examples=examples).outputs
    model = trained["model"]
    baseline, digest = last_pushed(folder / "saved_models" / "m")
    evaluated = evaluator(
        baseline=baseline,
        baseline_digest=digest,
        examples=examples,
        model=model,
    ).outputs
    model_blessing = gate(
        baseline=baseline,
        min_accuracy=min_accuracy,
        min_slice_accuracy=min_slice_accuracy,
        evaluation=evaluated["evaluation"],
        baseline_answers=evaluated["baseline_answers"],
    ).outputs["blessing"]
    if real is None:
        infra = infra_blesser(slow=slow, model=model).outputs["blessing"]
    else:
        limits = {"serving_image": None, "max_latency_ms": None, "max_memory_mb": None, **real}
        infra = infra_validator(examples=examples, model=model, evaluation=evaluated["evaluation"], **limits).outputs[
            "blessing"
        ]
    pushed = pusher(
        name="m",
        saved_models=str(folder / "saved_models"),
        **{"keep_versions": None, "allow_worse": False, **push},
        record={"command": "main.py"},
        examples=examples,
        model_run=trained["model_run"],
        model=model,
        evaluation=evaluated["evaluation"],
        model_blessing=model_blessing,
        infra_blessing=infra,
    ).outputs["pushed"]
    nodes = [port.node for port in (examples, model, evaluated["evaluation"], model_blessing, infra, pushed)]
    made = runner.run_nodes(nodes, folder / "root", pipeline="image_classification")
    if "InfraBlesser" in made:
        made["InfraValidator"] = made["InfraBlesser"]
    return made


@pytest.fixture(autouse=True)
def steady(monkeypatch):
    """Keep the code's digest out of it: someone may edit the code while the tests run."""
    monkeypatch.setattr(runner, "digest_files", lambda files: "this program")


def published(folder):
    root = folder / "saved_models"
    return sorted(str(path.relative_to(root)) for path in root.glob("m/[0-9]*"))


def state(folder):
    """Return every published file with its bytes and time."""
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in (folder / "saved_models").rglob("*")
        if path.is_file()
    }


def card(version):
    return json.loads((version / "assets.extra" / "card.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Push one version, which is right for 100 of 120 images."""
    folder = tmp_path_factory.mktemp("gates")
    with unittest.mock.patch.object(runner, "digest_files", return_value="this program"):
        made = run(folder, right=100)
    assert made["Pusher"]["pushed"].version() == folder / "saved_models" / "m" / "1"
    return folder


@pytest.fixture
def copy(folder, tmp_path):
    """Copy the folder for a test that changes it."""
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def test_the_first_is_published_with_its_verdicts(folder):
    version = folder / "saved_models" / "m" / "1"
    blessing = card(version)["blessing"]
    assert card(version)["weights_origin"] == {"repo": "timm/m", "license": "mit"}
    assert blessing["model"]["blessed"] == 1
    assert blessing["model"]["checks"]["accuracy"].startswith("accuracy 83.3% (95% interval ")
    assert "nothing was pushed before" in blessing["model"]["checks"]["not_worse"]
    assert blessing["infra"]["blessed"] == 1
    (artifact,) = (folder / "root" / "Gate" / "blessing").iterdir()
    assert sorted(path.name for path in artifact.iterdir()) == ["BLESSED", "checks.json"]
    assert (artifact / "BLESSED").read_bytes() == b""  # as TFX writes it
    slices = (version / "assets.extra" / "evaluation" / "slices.csv").read_text().splitlines()
    assert [line.split(",")[:4] for line in slices[1:]] == [
        ["class", "cat", "60", "50"],
        ["class", "dog", "60", "50"],
        ["size", "9 to 16 px", "60", "50"],
        ["size", "33 to 64 px", "60", "50"],
        ["site", "s0", "110", "100"],
        ["site", "s1", "10", "0"],
    ]
    assert slices[-1].endswith("too few to tell (fewer than 20)")
    found = lineage.find_lineage(folder / "root", version)
    facts = {row["type"]: row["properties"] for row in found["artifacts"]}
    assert facts["ModelBlessing"]["blessed"] == facts["InfraBlessing"]["blessed"] == 1
    assert "accuracy 83.3%" in "\n".join(lineage.format_lineage(found))


def test_a_worse_model_is_refused_and_nothing_changes(copy, capsys):
    before = state(copy)
    made = run(copy, right=80)
    assert state(copy) == before
    assert published(copy) == ["m/1"]
    pushed = made["Pusher"]["pushed"]
    assert pushed.version() is None
    (overall, slices) = pushed.refused()
    assert overall == (
        f"worse than {copy}/saved_models/m/1 on the same 120 test images: 20 that it gets right are wrong, 0 that it "
        "gets wrong are right (one-sided exact McNemar test, p = 9.5e-07, level 0.05)"
    )
    assert "Holm's p over 5 slices" in slices
    assert pushed.notes() == ["--allow_worse publishes it all the same"]
    assert (made["Gate"]["blessing"].path / "NOT_BLESSED").exists()
    checks = {check.slice: check for check in made["Gate"]["blessing"].checks() if check.slice}
    assert checks["site=s1"].passed is None  # too small
    assert checks["site=s0"].passed is False
    assert [row["state"] for row in list_runs(copy / "root")] == ["COMPLETE", "COMPLETE"]
    with pytest.raises(UserError, match="not made in"):  # and the refused one is in nobody's way
        lineage.find_lineage(copy / "root", copy / "saved_models" / "m" / "2")

    made = run(copy, right=80, allow_worse=True)
    assert "Evaluator: unchanged" in capsys.readouterr().out  # only the decision is another
    version = made["Pusher"]["pushed"].version()
    assert version == copy / "saved_models" / "m" / "2"
    assert card(version)["blessing"]["model"]["blessed"] == 0
    assert card(version)["notes"][0].startswith("published because of --allow_worse: worse than ")


def test_a_better_and_an_equal_model_are_published(copy, capsys):
    run(copy, right=110)
    run(copy, right=110)
    assert published(copy) == ["m/1", "m/2", "m/3"]
    _, second, third = sorted((copy / "root" / "Evaluator" / "evaluation").iterdir(), key=lambda path: int(path.name))
    assert content.fingerprint(second) == content.fingerprint(third)  # so that what takes it is not done again
    checks = card(copy / "saved_models" / "m" / "2")["blessing"]["model"]["checks"]
    assert "0 that it gets right are wrong, 10 that it gets wrong are right" in checks["not_worse"]
    assert card(copy / "saved_models" / "m" / "3")["notes"] == []
    capsys.readouterr()
    run(copy, right=110)
    assert "Evaluator: unchanged" in capsys.readouterr().out  # the last version serves what that before it serves
    assert card(copy / "saved_models" / "m" / "4")["notes"] == []


def test_a_class_that_got_worse_is_found_behind_the_whole(copy):
    made = run(copy, right=COUNT, blind=1)  # 20 more right, and the dogs beyond 60 wrong
    checks = {check.slice or check.name: check for check in made["Gate"]["blessing"].checks()}
    assert checks["class=dog"].passed is False
    assert checks["class=cat"].passed
    assert made["Pusher"]["pushed"].refused()[-1].startswith("class=dog: worse than ")


def test_absolute_thresholds(copy):
    made = run(copy, right=COUNT, min_accuracy=0.99, min_slice_accuracy=1.0)
    assert made["Pusher"]["pushed"].version() is not None
    made = run(copy, right=118, min_accuracy=0.99, min_slice_accuracy=0.98, allow_worse=True)
    pushed = made["Pusher"]["pushed"]
    assert pushed.refused()[0].startswith("accuracy 98.3% (95% interval ")
    assert pushed.refused()[0].endswith("below --min_accuracy 0.99")
    assert "--min_accuracy" in pushed.notes()[0]
    assert published(copy) == ["m/1", "m/2"]


def test_a_useless_model_is_published_with_a_warning(tmp_path):
    made = run(tmp_path, right=60)
    assert made["Pusher"]["pushed"].version() is not None
    (warning,) = made["Gate"]["blessing"].facts()["warnings"]
    assert warning.startswith("the model cannot be told from always answering 'cat', which is right for 50.0%")


def test_what_cannot_be_compared_is_said_and_published(copy):
    last = copy / "saved_models" / "m" / "1"
    (last / "assets" / "labels.txt").write_text("cat\nfox\n")
    run(copy, right=90)
    said = card(copy / "saved_models" / "m" / "2")["blessing"]["model"]["checks"]["not_worse"]
    assert said == f"not compared with {last}, the last that was pushed: it has other classes: it lacks dog and has fox"
    (copy / "saved_models" / "m" / "2" / "saved_model.pb").write_bytes(b"no graph")
    run(copy, right=80)
    said = card(copy / "saved_models" / "m" / "3")["blessing"]["model"]["checks"]["not_worse"]
    assert said.startswith(f"not compared with {copy}/saved_models/m/2, the last that was pushed: it cannot be run: ")


def test_classes_in_another_order_are_compared(copy):
    (copy / "saved_models" / "m" / "1" / "assets" / "labels.txt").write_text("dog\ncat\n")  # so it is always wrong but
    made = run(copy, right=90)  # where it was wrong before
    (check,) = [check for check in made["Gate"]["blessing"].checks() if check.name == "not_worse"]
    assert check.details == {"examples": COUNT, "lost": 20, "won": 90}


def test_a_slow_model_is_refused_by_the_real_infra_validator(copy):
    before = state(copy)
    made = run(copy, right=COUNT, real={"max_latency_ms": 1e-3})
    blessing = made["InfraValidator"]["blessing"]
    assert sorted(path.name for path in blessing.path.iterdir()) == ["INFRA_NOT_BLESSED", "checks.json"]
    (line,) = made["Pusher"]["pushed"].refused()
    assert line.endswith("on the CPU, above --max_latency_ms 0.001")
    assert "--max_latency_ms" in made["Pusher"]["pushed"].notes()[0]
    verdicts = {check.name: check.passed for check in blessing.checks()}
    assert verdicts["answers, serving_default"] is verdicts["answers, images"] is True
    assert state(copy) == before


def test_after_a_rollback_the_next_model_is_compared_with_what_is_served(copy):
    run(copy, right=110)
    folder = copy / "saved_models" / "m"
    republish_version(folder, 1, "main.py rollback m 1")
    assert last_pushed(folder) == (str(folder / "3"), versions.version_digest(folder / "1"))
    made = run(copy, right=105)  # worse than version 2, better than 1, which is served again
    said = card(folder / "4")["blessing"]["model"]["checks"]["not_worse"]
    assert said.startswith(f"no worse than {folder}/3") or f"{folder}/3" in said
    assert "0 that it gets right are wrong, 5 that it gets wrong are right" in said
    assert made["Pusher"]["pushed"].notes() == []


def test_other_bounds_judge_the_same_evaluation(copy, monkeypatch):
    """No image is asked again, of the model or of the baseline."""
    run(copy, right=100)
    with monkeypatch.context() as patch:
        for name in ("evaluate_export", "correct_answers"):
            patch.setattr(evaluator_module, name, None)
        baseline = str(copy / "saved_models" / "m" / "1")
        pushed = (baseline, versions.version_digest(Path(baseline)))
        patch.setattr(sys.modules[__name__], "last_pushed", lambda folder: pushed)
        made = run(copy, right=100, min_accuracy=0.9, min_slice_accuracy=0.5)
    assert made["Pusher"]["pushed"].refused()[0].endswith("below --min_accuracy 0.9")
    assert made["Gate"]["blessing"].facts()["baseline"] == baseline
    with contextlib.closing(sqlite3.connect(copy / "root" / "metadata.sqlite")) as db:
        rows = db.execute("SELECT type, state FROM execution ORDER BY id DESC LIMIT 6").fetchall()
    assert {name for name, state in rows if state == "COMPLETE"} == {"Gate", "Pusher"}
    assert {name for name, state in rows if state == "CACHED"} == {
        "ExampleGen",
        "Trainer",
        "Evaluator",
        "InfraBlesser",
    }


def test_what_tensorflow_serving_needs_is_published_along(folder):
    published = folder / "saved_models" / "m"
    assert {"models.config", "batching.config", "README.txt"} <= {path.name for path in published.iterdir()}
    warmup = (published / "1" / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    assert all(picture(index)[0] in warmup for index in range(2))


def test_a_bundle_that_cannot_be_written_is_a_warning(copy, monkeypatch, capsys):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(bundle, "replace_file", full)
    assert run(copy, right=100)["Pusher"]["pushed"].version() == copy / "saved_models" / "m" / "2"
    assert "Warning: what TensorFlow Serving needs in" in capsys.readouterr().out


def test_keeps_as_many_as_asked(copy):
    for _ in range(3):
        run(copy, right=100)
    assert published(copy) == ["m/1", "m/2", "m/3", "m/4"]
    run(copy, right=100, slow=True, keep_versions=2)
    assert published(copy) == ["m/1", "m/2", "m/3", "m/4"]  # a refused model takes no other's place
    run(copy, right=100, keep_versions=2)
    assert published(copy) == ["m/4", "m/5"]
    with pytest.raises(UserError, match="--keep_versions 1: expected 2 or more"):
        check_gates(1, None, None)
    with pytest.raises(UserError, match="--max_latency_ms 0: expected a positive number"):
        check_gates(None, 0.0, None)


PROGRAM = """
import os, pathlib, signal, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/tests/pipelines/graphs"]
import test_gates
from kcnn.serving.publishing import versions
from pipelines.engine import runner
runner.digest_files = lambda files: "this program"
publish = versions.publish_version
if sys.argv[3] == "killed":
    versions.publish_version = lambda *arguments: (publish(*arguments), os.kill(os.getpid(), signal.SIGKILL))
test_gates.run(pathlib.Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_what_is_published_is_recorded_though_the_run_was_killed_right_then(copy):
    def end(how):
        command = [sys.executable, "-c", PROGRAM, ROOT, copy, how]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    before = published(copy)
    done = end("killed")
    assert done.returncode == -signal.SIGKILL, done.stderr
    (version,) = set(published(copy)) - set(before)
    done = end("whole")
    assert done.returncode == 0, done.stderr
    found = lineage.find_lineage(copy / "root", copy / "saved_models" / version)
    assert {"Trainer", "Evaluator", "Pusher"} <= {row["component"] for row in found["executions"]}


def test_another_run_that_published_meanwhile_is_told_of(copy):
    real = runner.run_nodes

    def late(nodes, *arguments, **options):
        (copy / "saved_models" / "m" / "2").mkdir()  # after the graph is built
        return real(nodes, *arguments, **options)

    with unittest.mock.patch.object(runner, "run_nodes", late):
        made = run(copy, right=100)
    (note,) = made["Pusher"]["pushed"].notes()
    assert (
        note
        == f"published without a comparison with {copy}/saved_models/m/2, which appeared while this run was at work"
    )


def test_the_job_ends_with_one_line(copy, monkeypatch, capsys):
    job = image_classification.TrainingJob(
        config=dataclasses.replace(build("scratch"), phases=(Phase("all", 1, 0.1),)),
        publication=Publication(name="m", saved_models=str(copy / "saved_models")),
        pipeline_root=str(copy / "root"),
        command="main.py",
    )
    made = run(copy, right=80, blind=1)
    monkeypatch.setattr(image_classification, "run_graph", lambda *_, **__: made)
    monkeypatch.setattr(image_classification, "graph", lambda *_: [])
    with pytest.raises(RefusedError) as refusal:
        image_classification.run(job)
    line = str(refusal.value)
    assert "\n" not in line
    assert line.startswith(f"not published: worse than {copy}/saved_models/m/1 on the same 120 test images: 30 that")
    assert line.endswith(". To go on: --allow_worse publishes it all the same")
    printed = capsys.readouterr().out
    assert "Published: nothing" in printed
    assert "Weakest slices: class=dog 50.0% of 60" in printed
    assert "Slices against the last version: " in printed


def test_the_command_ends_with_one_line_and_status_1():
    program = (
        "import sys; from kcnn.errors import RefusedError; from pipelines import command_line\n"
        "def refuse(*_): raise RefusedError('not published: too slow')\n"
        "command_line.load_command('runs').run = refuse; sys.exit(command_line.run(['main.py', 'runs']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "main.py: not published: too slow\n")


def test_blessings_read_back(tmp_path):
    checks = [Check("accuracy", True, "fine", None, 0.9, 0.5, {"low": 0.8}), Check("x", None, "?", "class=a")]
    artifact = ModelBlessing(tmp_path)
    artifact.write(checks, {"baseline": None})
    assert artifact.checks() == checks
    assert artifact.blessed()
    assert artifact.properties()["slices_not_judged"] == ["class=a"]
    with pytest.raises(ValueError, match="JSON"):
        artifact.write([Check("accuracy", True, "", figure=float(np.nan))], {})
    assert Path(tmp_path, "BLESSED").exists()
