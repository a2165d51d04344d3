"""Faults of real jobs: a full disk, one that refuses, damaged files, a clock set back, Ctrl-C."""

import errno
import gzip
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import steps
from PIL import Image

from kcnn import content
from kcnn.data.ingestion import ingest
from kcnn.errors import UserError
from pipelines.components import example_gen
from pipelines.engine.obstacles import describe_obstacle
from pipelines.reports import lineage
from pipelines.reports.runs import list_runs
from tests.pipelines.engine import small_disks

MAIN = Path(__file__).parents[3] / "main.py"


def namespace():
    """Find a command that gives what follows a view of the disks of its own; None where that is not allowed."""
    for options in ("-rm", "-m"):
        with_mount = ["unshare", options, "mount", "-t", "tmpfs", "none", "/mnt"]
        if shutil.which("unshare") and subprocess.run(with_mount, capture_output=True, check=False).returncode == 0:
            return ["unshare", options]
    return None


NAMESPACE = namespace()
needs_namespace = pytest.mark.skipif(NAMESPACE is None, reason="no disk can be mounted here")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "photos"
    for label, hue in {"fox": (200, 60, 60), "sky": (60, 60, 200)}.items():
        (folder / label).mkdir(parents=True)
        for index in range(30):
            pixels = np.random.default_rng(index).normal(hue, 30, (40, 40, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


def on_small_disks(cwd, components, *arguments):
    """Return the rows of `small_disks`, by component."""
    program = [sys.executable, small_disks.__file__, ",".join(components), *map(str, arguments)]
    done = subprocess.run([*NAMESPACE, *program], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {name: [row for row in rows if row["component"] == name] for name in components}


def check_small_disks(rows, resumable=()):
    for name, attempts in rows.items():
        *refused, fits, with_room = attempts
        for row in refused:
            folder = "saved_models" if name == "Pusher" else f".kcnn/{name}/"
            assert row["status"] == 2, row
            (line,) = row["errors"]
            assert line.startswith(f"main.py: error: {name}: cannot write in {folder}"), row
            assert "No space left on device" in line, row
            assert row["left"] == [] or name in resumable, row
        assert [row["status"] for row in (fits, with_room)] == [0, 0], (fits, with_room)
        assert with_room["left"] == []


@needs_namespace
def test_a_full_disk_is_one_line_and_the_run_can_be_repeated(photos, tmp_path):
    components = ["ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "ImageScan", "DataReport"]
    rows = on_small_disks(tmp_path, components, "data", "--dataset", photos, "--offline")
    check_small_disks(rows)
    assert all(len(attempts) > 2 for attempts in rows.values()), "a disk was never too small"


@pytest.mark.slow
@needs_namespace
def test_a_full_disk_in_the_main_job(photos, tmp_path):
    components = ["ExampleGen", "Transform", "Trainer", "Exporter", "Evaluator", "InfraValidator", "Pusher"]
    network = ["--model", "lenet5", "--image_size", 32, "--epochs", 1, "--batch_size", 16]
    rows = on_small_disks(tmp_path, components, "--dataset", photos, "--offline", *network)
    check_small_disks(rows, resumable=["Trainer"])
    assert all(len(rows[name]) > 2 for name in ("ExampleGen", "Trainer", "Exporter", "Evaluator", "Pusher"))
    assert [path.name for path in (tmp_path / "saved_models" / "lenet5").iterdir() if path.is_dir()] == ["1"]


@needs_namespace
def test_a_disk_without_room_for_the_metadata(tmp_path):
    """All of the root on one small disk, filled up more and more, under the small components of `steps`."""
    _, expected = steps.undisturbed(tmp_path / "whole")
    script = (
        'mount -t tmpfs -o size=1m none "$1" && mkdir "$1/root" || exit 9\n'
        'head -c "$2" /dev/zero > "$1/ballast" || exit 9\n'
        '"$3" "$4" "$1/root" "{}"; status=$?; rm "$1/ballast"\n'
        '"$3" "$4" "$1/root" "{}" || exit 9\n'
        'cp -r "$1" "$5"; exit $status'
    )
    seen = set()
    for room in (0, 8, 40, 140, 240, 480, 960):  # KiB
        disk, copy = tmp_path / f"disk{room}", tmp_path / f"copy{room}"
        disk.mkdir()
        arguments = [disk, (1024 - room) * 1024, sys.executable, steps.__file__, copy]
        command = [*NAMESPACE, "sh", "-c", script, "sh", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 2), (room, done.stderr)
        seen.add(done.returncode)
        if done.returncode == 2:
            assert len(done.stderr.splitlines()) == 1, done.stderr
            assert str(disk) in done.stderr
            assert any(words in done.stderr for words in ("No space", "is full", "left on its disk")), done.stderr
        assert steps.check(copy / "root") == set()
        assert steps.run(copy / "root")["Add"] == expected["Add"]
    assert seen == {0, 2}


@needs_namespace
def test_a_root_that_cannot_be_written(tmp_path):
    root = tmp_path / "root"
    steps.run(root)
    script = 'mount --bind root root && mount -o remount,ro,bind root && exec "$@"'

    def read_only(*command):
        command = [*NAMESPACE, "sh", "-c", script, "sh", sys.executable, *command]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    refused = read_only(steps.__file__, root, "{}")
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: --pipeline_root {root}: ")
    assert len(refused.stderr.splitlines()) == 1
    asked = read_only(MAIN, "runs", "--pipeline_root", "root")  # to read it is no harm
    assert "COMPLETE" in asked.stdout, asked.stderr
    asked = read_only(MAIN, "lineage", "root/Push/pushed/4", "--pipeline_root", "root")
    assert "made by Source in run 1" in asked.stdout, asked.stderr


def test_numpy_names_no_reason_but_the_runner_does(tmp_path):
    done = subprocess.run(
        [sys.executable, steps.__file__, str(tmp_path / "root"), '{"numbers": 50000}', "full", "200000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr == (
        f"error: Source: cannot write in {tmp_path}/root/Source/number/1.partial: No space left on device\n"
    )
    assert steps.check(tmp_path / "root") == set()


REFUSED = [errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO]


@pytest.mark.parametrize("code", REFUSED, ids=errno.errorcode.get)
@pytest.mark.parametrize("place", ["another folder", "its output", "nothing there"])
def test_the_disk_refuses_to_read_or_to_write(tmp_path, monkeypatch, code, place):
    """A file that is there and is no output was being read; but a disk that is read-only can be read."""
    photo = tmp_path / "photo.jpg"
    photo.touch()
    root = tmp_path / "root"
    partial = root / "Source" / "number" / "1.partial"
    path = {"another folder": photo, "its output": partial / "deep" / "n", "nothing there": tmp_path / "new"}[place]

    def refuse(self, n):
        if place == "its output":
            (partial / "deep").mkdir()
            path.touch()
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(steps.Number, "write", refuse)
    with pytest.raises(UserError) as refusal:
        steps.run(root)
    if place == "another folder" and code != errno.EROFS:
        assert str(refusal.value) == f"Source: cannot read {photo}: {os.strerror(code)}"
    else:
        assert str(refusal.value) == f"Source: cannot write in {path.parent}: {os.strerror(code)}"


@pytest.mark.parametrize("code", REFUSED, ids=errno.errorcode.get)
def test_a_tree_that_cannot_be_copied(tmp_path, code):
    """`shutil` gathers the errors of a copy, and has no number for them."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.touch()

    def copy_error(path):
        return shutil.Error([(str(source), str(target), f"[Errno {code}] {os.strerror(code)}: {str(path)!r}")])

    if code != errno.EROFS:
        assert describe_obstacle(copy_error(source), tmp_path) == f"cannot read {source}: {os.strerror(code)}"
    assert describe_obstacle(copy_error(target), tmp_path) == f"cannot write in {tmp_path}: {os.strerror(code)}"


def test_a_copy_for_which_there_is_no_room_names_where_it_was_to_go(tmp_path):
    source, target = tmp_path / "here" / "file", tmp_path / "there" / "file"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source), None, str(target))
    expected = f"cannot write in {target.parent}: {os.strerror(errno.ENOSPC)}"
    assert describe_obstacle(full, tmp_path) == expected
    assert describe_obstacle(shutil.Error([(str(source), str(target), str(full))]), tmp_path) == expected


def test_an_error_of_the_disk_without_a_name_says_both(tmp_path, monkeypatch):
    def refuse(self, n):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(steps.Number, "write", refuse)
    with pytest.raises(UserError, match=r"^Source: cannot read or write in .*/1.partial: Input/output error$"):
        steps.run(tmp_path / "root")


@pytest.mark.parametrize("code", REFUSED, ids=errno.errorcode.get)
def test_the_disk_refuses_outside_of_components(tmp_path, monkeypatch, code):
    """The size of what was made is looked at before it is taken."""
    root = tmp_path / "root"
    steps.run(root)
    path = root / "Source" / "number" / "1" / "data"

    def refuse(*_):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(content, "size", refuse)
    expected = f"cannot write in {path.parent}" if code == errno.EROFS else f"cannot read {path}"
    with pytest.raises(UserError) as refusal:
        steps.run(root)
    assert str(refusal.value) == f"--pipeline_root {root}: {expected}: {os.strerror(code)}"


def damaged(folder, how):
    """Damage the training examples of a finished ExampleGen."""
    (shard,) = folder.glob(".kcnn/ExampleGen/examples/*/Split-train/*.gz")
    content = shard.read_bytes()
    middle = len(content) // 2
    ways = {
        "truncated": lambda: content[:middle],
        "flipped": lambda: content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "emptied": lambda: b"",
        "another": lambda: gzip.compress(gzip.decompress(content)),
    }
    shard.write_bytes(ways[how]())


@pytest.mark.parametrize("how", ["truncated", "flipped", "emptied", "another"])
def test_a_damaged_shard_is_one_line_and_is_made_anew(photos, tmp_path, how, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ["data", "--dataset", str(photos), "--offline"]
    assert small_disks.call(*data, "--to", "ExampleGen")[0] == 0
    damaged(tmp_path, how)
    status, said = small_disks.call(*data)
    assert status == 2, said
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert ".kcnn/ExampleGen/examples/1" in line
    assert "delete the folder" in line
    shutil.rmtree(tmp_path / ".kcnn" / "ExampleGen" / "examples" / "1")
    assert small_disks.call(*data)[0] == 0
    (page,) = tmp_path.glob(".kcnn/DataReport/report/*/report.html")
    assert "fox" in page.read_text()


@pytest.mark.parametrize("how", ["removed", "another picture", "one more"])
def test_a_data_set_that_changes_while_it_is_read(photos, tmp_path, how, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    picture, spare = Path("photos/fox/7.png"), Path("spare.png")
    Image.new("RGB", (40, 40), "green").save(spare)
    ways = {
        "removed": (ingest, "tally_images", picture.unlink),  # between the look at the pictures and the writing
        "another picture": (ingest, "tally_images", lambda: spare.replace(picture)),
        "one more": (example_gen, "ingest", lambda: spare.replace("photos/sky/new.png")),  # after they were counted
    }
    module, name, happens = ways[how]
    went_on = getattr(module, name)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, lambda *arguments, **named: (happens(), went_on(*arguments, **named))[1])
        status, said = small_disks.call("data", "--dataset", "photos", "--offline")
    assert status == 2, said
    (line,) = [line for line in said.splitlines() if "error" in line]
    assert re.search(
        r"--dataset photos: (.*7\.png )?changed while it was read(, from 60 to 61 images)?; run again$", line
    )
    assert not list(Path(".kcnn").glob("ExampleGen/*/*"))
    status, said = small_disks.call("data", "--dataset", "photos", "--offline")
    assert status == 0, said


@pytest.mark.slow
def test_a_damaged_shard_under_the_trainer(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network = ["--model", "lenet5", "--image_size", "32", "--epochs", "1", "--batch_size", "16"]
    job = ["--dataset", str(photos), "--offline", *network]
    assert small_disks.call(*job, "--to", "Transform")[0] == 0
    damaged(tmp_path, "flipped")
    status, said = small_disks.call(*job, "--only", "Trainer")
    assert status == 2, said
    assert "main.py: error: Trainer: .kcnn/ExampleGen/examples/1 has changed since it was made" in said
    damaged(tmp_path, "flipped")  # back again
    assert small_disks.call(*job, "--only", "Trainer")[0] == 0


def test_what_a_component_cannot_read_is_compared_with_what_was_made(tmp_path):
    root = tmp_path / "root"
    steps.run(root, last="Source")
    (number,) = root.glob("Source/number/*/deep/n")
    number.write_text("x")  # as long as what was there
    with pytest.raises(UserError, match=r"^Double: .*/Source/number/1 has changed since it was made: .* delete the"):
        steps.run(root)
    number.write_text("33")
    with pytest.raises(UserError, match=r"^.*/1 has 2 files of 10002 bytes instead of 2 of 10001 since it was made"):
        steps.run(root)
    number.write_text("3")
    assert steps.run(root)["Push"]["pushed"]["deep/n"] == b"9"


def test_a_clock_that_is_set_back(tmp_path, monkeypatch):
    root, now = tmp_path / "root", [2e9]
    made = steps.run(root)

    def backwards():
        now[0] -= 1000
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    steps.run(root, n=5)
    assert steps.run(root) == made
    rows = list_runs(root)
    assert [row["run"] for row in rows] == [1, 2, 3]
    assert all(row["seconds"] >= 0 for row in rows)
    found = lineage.find_lineage(root, root / "Push" / "pushed" / "12")
    assert all(row["seconds"] >= 0 for row in found["executions"])
    with sqlite3.connect(root / "metadata.sqlite") as db:
        assert db.execute("SELECT count(*) FROM execution WHERE finished < started").fetchone() == (0,)
    assert steps.check(root) == set()


def test_a_part_that_was_refused_is_no_failure(tmp_path):
    root = tmp_path / "root"
    with pytest.raises(UserError, match="Source is needed and not finished"):
        steps.run(root, first="Double")
    assert [row["state"] for row in list_runs(root)] == ["REFUSED"]


def test_what_another_version_of_the_program_left_goes_once_it_is_done_anew(tmp_path, monkeypatch, capsys):
    root = tmp_path / "root"

    def interrupted(n):
        with monkeypatch.context() as patch:
            patch.setattr(steps, "STEPS", None)
            with pytest.raises(TypeError):
                steps.run(root, n=n)

    interrupted(1)
    interrupted(2)
    assert len(list(root.glob("*/*/*.partial"))) == 2
    monkeypatch.setattr(steps, "CODE", "another program")
    steps.run(root, n=1)
    (left,) = root.glob("*/*/*.partial")  # of other settings: someone may go back to them
    monkeypatch.setattr(steps, "CODE", "this program")
    steps.run(root, n=2, resume=True)
    assert not left.exists()
    assert left.with_suffix("").is_dir()
    assert steps.check(root) == set()


def interrupted(arguments, cwd, folder):
    """Send main.py Ctrl-C, as a terminal does, when the folder is there; returns its standard error."""
    process = subprocess.Popen(
        [sys.executable, str(MAIN), *map(str, arguments)], cwd=cwd, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(cwd.glob(folder)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    return stderr.splitlines()


def test_ctrl_c_while_looking_at_data(photos, tmp_path):
    lines = interrupted(["data", "--dataset", photos, "--offline"], tmp_path, ".kcnn/ExampleGen/*/*.partial")
    assert lines[-1] == "Interrupted. The same command goes on with ExampleGen; what was done before it is kept."
    assert not list(tmp_path.glob(".kcnn/*/*/*.partial"))
    assert [row["state"] for row in list_runs(tmp_path / ".kcnn")] == ["INTERRUPTED"]
