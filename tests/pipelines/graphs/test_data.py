"""The look at a data set, by its command: what it prints, keeps and leaves alone."""

import csv
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorflow_metadata.proto.v0 import anomalies_pb2

from kcnn import content
from kcnn.data.validation.schema import read_schema, write_schema
from kcnn.errors import UserError
from kcnn.recipes import build
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.scan import Findings
from pipelines.artifacts.validation import ExampleAnomalies
from pipelines.graphs import data
from pipelines.graphs.preflight import check_apart, previous_statistics, settle_dataset
from pipelines.reports.runs import list_runs
from tests.pipelines.engine import small_disks

MAIN = Path(__file__).parents[3] / "main.py"


def photo(path, seed, **options):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(30, 220, (7, 9, 3), np.uint8)).resize((90, 70), Image.Resampling.NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.save(path, **options)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Photos with a leak, a contradiction, a blank and a broken one, and what the command said of them."""
    folder = tmp_path_factory.mktemp("work")
    photos = folder / "photos"
    for split, count in (("train", 40), ("val", 20), ("test", 20)):
        for index in range(count):
            photo(photos / split / ("cat", "dog")[index % 2] / f"{index}.jpg", len(split) * 1000 + index)
    photo(photos / "test" / "cat" / "<i>leak.jpg", 5000, quality=50)  # train/cat/0.jpg
    photo(photos / "train" / "cat" / "both.jpg", 5001)  # train/dog/1.jpg
    Image.new("RGB", (90, 70), "white").save(photos / "val" / "dog" / "blank.png")
    (photos / "train" / "cat" / "broken.jpg").write_bytes(b"none")
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    command = [sys.executable, str(MAIN), "data", "--dataset", "photos", "--offline"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert before == {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    return folder, done.stdout


def test_one_screen_says_what_is_there_and_where(ran):
    folder, said = ran
    lines = said[said.index("Images:") :].splitlines()
    assert lines[0] == "Images: 83 in 2 classes (train 41, val 21, test 21), 1 excluded"
    assert [line.split() for line in lines[3:6]] == [
        ["leak", "1", "group"],
        ["contradiction", "1", "group"],
        ["blank", "1", "image"],
    ]
    assert lines[6] == (
        "Worst leak: train/cat/0.jpg (train, cat) and test/cat/<i>leak.jpg (test, cat) show one picture"
    )
    (page,) = folder.glob(".kcnn/DataReport/report/*/report.html")
    assert f"Report: {page.relative_to(folder)}" in lines
    assert len(lines) <= 24
    html = page.read_text(encoding="utf-8")
    assert "&lt;i&gt;leak.jpg" in html
    assert "<i>" not in html
    assert "broken.jpg" in html
    assert all(word in html for word in ("ImageScan/findings", "exclusions.csv", "findings.jsonl", "--exclude"))


def test_findings_are_kept_as_data_and_as_a_list_to_edit(ran):
    folder, _ = ran
    (path,) = folder.glob(".kcnn/ImageScan/findings/*")
    rows = [json.loads(line) for line in (path / "findings.jsonl").read_text().splitlines()]
    assert [row["finding"] for row in rows] == ["leak", "contradiction", "blank", "excluded"]
    assert rows[3]["filenames"] == ["train/cat/broken.jpg"]
    assert rows[3]["value"] == "not an image"
    assert rows[2] == {
        "finding": "blank",
        "filenames": ["val/dog/blank.png"],
        "splits": ["val"],
        "labels": ["dog"],
        "value": 0.0,
        "threshold": 3.0,
        "how": "",
    }
    assert rows[1]["labels"] == ["cat", "dog"]
    with (path / "exclusions.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert {(row["filename"], row["finding"]) for row in listed} == {
        (name, row["finding"]) for row in rows[:3] for name in row["filenames"]
    }
    assert list(listed[0]) == ["group", "split", "label", "value", "filename", "finding", "exclude"]
    assert [(row["group"], row["split"], row["label"], row["filename"]) for row in listed] == [
        ("1", "train", "cat", "train/cat/0.jpg"),
        ("1", "test", "cat", "test/cat/<i>leak.jpg"),
        ("2", "train", "cat", "train/cat/both.jpg"),
        ("2", "train", "dog", "train/dog/1.jpg"),
        ("", "val", "dog", "val/dog/blank.png"),
    ]
    assert [row["value"] for row in listed] == [str(row["value"]) for row in rows[:3] for _ in row["filenames"]]
    assert {row["exclude"] for row in listed} == {""}
    findings = Findings(path)
    assert findings.properties() == {
        "images": 83,
        "findings": {"leak": 1, "contradiction": 1, "blank": 1, "excluded": 1},
    }
    again = Findings(folder / "again")
    again.path.mkdir()
    again.write(findings.read())
    for file in path.iterdir():
        assert (again.path / file.name).read_bytes() == file.read_bytes()


def job(root, dataset):
    return data.DataJob(dataset=str(dataset), data_dir=None, offline=True, pipeline_root=str(root), command="")


def test_nothing_is_looked_at_twice_and_the_same_bytes_come_out_anew(ran, tmp_path, capsys, monkeypatch):
    folder, _ = ran
    monkeypatch.chdir(folder)
    first = data.run(job(".kcnn", "photos"))
    assert capsys.readouterr().out.count(": unchanged") == 6
    second = data.run(job(tmp_path, "photos"))
    assert first.read_bytes() == second.read_bytes()
    prints = [content.fingerprint(next(root.glob("ImageScan/findings/*"))) for root in (Path(".kcnn"), tmp_path)]
    assert prints[0] == prints[1]


def test_pictures_in_no_folders(tmp_path, capsys):
    for index in range(60):
        photo(tmp_path / "photos" / f"{index}.png", index % 59)
    data.run(job(tmp_path / "root", tmp_path / "photos"))
    said = capsys.readouterr().out
    assert "Images: 60 in 1 class " in said
    assert said.count("1 group") == 1


def test_the_graph_reads_as_data_flow(tmp_path):
    nodes = data.graph(job(tmp_path, "digits"), "")
    assert [node.name for node in nodes] == [
        "ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "ImageScan", "DataReport",
    ]  # fmt: skip


def test_drift_is_told_against_the_last_run_on_other_data_of_the_name(tmp_path, capsys):
    photos, root = tmp_path / "photos", tmp_path / "root"

    def fill(split, cats, dogs, seed):
        for index in range(cats + dogs):
            photo(photos / split / ("cat" if index < cats else "dog") / f"{index}.png", seed + index)

    def drift():
        data.run(job(root, photos))
        said = capsys.readouterr().out
        anomalies = ExampleAnomalies(max(root.glob("ExampleValidator/anomalies/*"), key=lambda path: int(path.name)))
        return [line for line in anomalies.lines() if "the previous run" in line], said, anomalies

    for split, seed in (("train", 0), ("val", 200), ("test", 400)):
        fill(split, 60, 60, seed)
    found, _, anomalies = drift()
    assert not found
    assert not any(info.drift_measurements for info in anomalies.read("train").drift_skew_info)
    assert drift()[1].count(": unchanged") == 6  # on the same data: nothing anew, no drift

    photo(photos / "train" / "cat" / "new.png", 1000)  # one more: other data, alike
    found, _, anomalies = drift()
    assert not found
    assert any(info.drift_measurements for info in anomalies.read("train").drift_skew_info)

    fill("train", 0, 500, 2000)  # many more dogs
    for index in range(60):
        photo(photos / "train" / "bird" / f"{index}.png", 3000 + index)
    found, said, anomalies = drift()
    info = anomalies.read("train").anomaly_info["image/class/text"]
    kinds = {reason.type for reason in info.reason}
    assert anomalies_pb2.AnomalyInfo.COMPARATOR_L_INFTY_HIGH in kinds
    assert anomalies_pb2.AnomalyInfo.ENUM_TYPE_UNEXPECTED_STRING_VALUES in kinds  # birds
    assert found
    assert all(f"Warning: {line}" in said for line in found)
    again, said, _ = drift()
    assert again == found
    assert said.count(": unchanged") == 6

    other = data.DataJob(dataset="digits", data_dir=None, offline=True, pipeline_root=str(root), command="")
    assert not previous_statistics(root, other.dataset, "")
    assert previous_statistics(root, str(photos), "")["previous_fingerprint"]
    assert not previous_statistics(tmp_path / "none", str(photos), "")


def test_a_schema_that_is_given_counts_and_is_checked_before_anything_is_read(ran, tmp_path, capsys):
    folder, _ = ran
    schema = read_schema(next(folder.glob(".kcnn/SchemaGen/schema/*/schema.pbtxt")))
    (names,) = [domain for domain in schema.string_domain if domain.name == "image/class/text"]
    names.value[:] = ["cat", "wolf"]
    write_schema(schema, tmp_path / "mine.pbtxt")
    edited = dataclasses.replace(job(tmp_path / "root", folder / "photos"), schema=str(tmp_path / "mine.pbtxt"))
    data.run(edited)
    said = capsys.readouterr().out
    assert "Warning: train: image/class/text: 'dog' (20 images) not in the schema\n" in said
    assert "Warning: train: image/class/text: no image of 'wolf', which the schema has\n" in said

    (tmp_path / "mine.pbtxt").write_text("feature { name: 1 }")
    (tmp_path / "empty.pbtxt").touch()
    for name, message in (("mine", "not a schema.pbtxt: 1:17"), ("empty", "no feature"), ("none", "cannot be read")):
        bad = dataclasses.replace(edited, schema=str(tmp_path / f"{name}.pbtxt"), pipeline_root=str(tmp_path / "new"))
        with pytest.raises(UserError, match=rf"--schema .*{name}\.pbtxt: {message}"):
            data.run(bad)
        assert not (tmp_path / "new").exists()


def test_what_is_excluded_is_said_counted_and_kept(ran, tmp_path, capsys):
    folder, _ = ran
    rows = list(csv.DictReader(next(folder.glob(".kcnn/ImageScan/findings/*/exclusions.csv")).open(newline="")))
    path = tmp_path / "mine.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(
            {**row, "exclude": "x" * (row["filename"] in ("val/dog/blank.png", "test/cat/<i>leak.jpg"))} for row in rows
        )
    excluding = dataclasses.replace(job(tmp_path / "root", folder / "photos"), exclude=[str(path)])
    data.run(excluding)
    said = capsys.readouterr().out
    assert f"Excluded: 2 of 84 images, by {path}\n" in said
    assert "Images: 81 in 2 classes (train 41, val 20, test 20), 3 excluded\n" in said
    assert "  contradiction   1 group\n" in said
    assert "blank  " not in said
    (examples,) = (tmp_path / "root").glob("ExampleGen/examples/*")
    kept = Examples(examples).properties()["excluded"]  # which card and lineage take from
    assert kept["val/dog/blank.png"] == f"excluded by {path}: blank"
    assert (folder / "photos/val/dog/blank.png").exists()
    data.run(excluding)
    assert capsys.readouterr().out.count(": unchanged") == 6

    path.write_text(path.read_text().replace("val/dog/blank.png,blank,x", "val/dog/blank.png,blank,"))
    data.run(excluding)
    assert "Images: 82 in 2 classes" in capsys.readouterr().out
    path.write_text("filename,exclude\ndog/blank.png,x\n")
    with pytest.raises(UserError, match="did you mean val/dog/blank"):
        data.run(excluding)
    assert "Excluded" not in capsys.readouterr().out


def test_the_list_may_be_edited_where_it_lies(ran, tmp_path, capsys):
    """With a program that keeps a file of its own beside it."""
    folder, _ = ran
    own = job(tmp_path / "root", folder / "photos")
    data.run(own)
    (path,) = (tmp_path / "root").glob("ImageScan/findings/*/exclusions.csv")
    path.write_text(path.read_text().replace("val/dog/blank.png,blank,", "val/dog/blank.png,blank,x", 1))
    (path.parent / ".~lock.exclusions.csv#").write_text("open")
    capsys.readouterr()
    data.run(own)
    assert capsys.readouterr().out.count(": unchanged") == 6
    data.run(dataclasses.replace(own, exclude=[str(path)]))
    assert f"Excluded: 1 of 84 images, by {path}\n" in capsys.readouterr().out
    (path.parent / "findings.jsonl").write_text("")
    with pytest.raises(UserError, match="since it was made"):
        data.run(own)


def test_a_data_set_that_cannot_be_trained_on_has_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for index in range(20):
        for name in ("train/cat", "train/dog", "test/cat", "test/fox"):
            photo(tmp_path / "photos" / name / f"{index}.png", index + 100 * len(name) + ord(name[-1]))
    photo(tmp_path / "photos" / "unsorted" / "x.png", 1)
    page = data.run(job(".kcnn", "photos"))
    said, html = capsys.readouterr().out, page.read_text()
    for line in (
        "unsorted beside test and train; expected train, val and test alone",
        "1 class without an image to train on; add some, or leave the class out: fox (20 images)",
        "1 file excluded: unsorted/x.png (not in a folder of train, val or test)",
    ):
        assert f"Warning: {line}\n" in said
        assert line in html
    assert "Warning: test: image/class/text: 'fox' (20 images) not in the schema\n" in said

    train = ["--dataset", "photos", "--offline", "--model", "lenet5", "--image_size", "32"]
    status, said = small_disks.call(*train)
    assert status == 2
    assert said == (
        "main.py: error: --dataset photos: unsorted beside test and train; expected train, val and test alone\n"
    )
    shutil.rmtree("photos/unsorted")
    for command in (train, ["pretrain", *train]):
        status, said = small_disks.call(*command)
        assert status == 2
        (line,) = [line for line in said.splitlines() if "error" in line]
        assert line == (
            "main.py: error: --dataset: 1 class without an image to train on; add some, or leave the class out: "
            "fox (20 images)"
        )
    assert not list(Path(".kcnn").glob("*rainer/*/*[0-9]"))


@pytest.mark.parametrize("labels", [["cat"] * 9, ["cat", "dog"]])
def test_one_class_and_no_image_to_train_on_have_a_page(tmp_path, labels):
    seeds = iter(range(10_000))
    for index, label in enumerate(labels):
        path = tmp_path / "photos" / label / f"{index}.png"
        photo(path, next(seeds))
        while len(labels) == 2 and hashlib.sha256(path.read_bytes()).digest()[0] > 0x20:  # drawn into test
            photo(path, next(seeds))
    assert data.run(job(tmp_path / "root", tmp_path / "photos")).exists()


def test_a_path_that_is_spelt_otherwise_is_the_same_data_set(ran, tmp_path, capsys, monkeypatch):
    folder, _ = ran
    monkeypatch.chdir(folder)
    data.run(job(tmp_path, "photos"))
    capsys.readouterr()
    data.run(job(tmp_path, "./photos/"))
    assert capsys.readouterr().out.count(": unchanged") == 6
    assert settle_dataset(build("scratch", dataset="photos/")) == build("scratch", dataset="photos")
    assert settle_dataset(build("scratch")) == build("scratch")


@pytest.mark.parametrize("root", [".", "out", "deep/out"])
def test_a_root_inside_the_data_set_is_refused(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    photo(tmp_path / "cat" / "0.png", 0)
    with pytest.raises(UserError, match=f"--pipeline_root {root}: inside --dataset ., whose files all count as images"):
        data.run(job(root, "."))
    check_apart("--pipeline_root", Path(".kcnn"), ".")
    check_apart("--pipeline_root", Path(".hidden/out"), ".")
    check_apart("--pipeline_root", tmp_path.parent / "out", ".")
    check_apart("--pipeline_root", Path("out"), "digits")


@pytest.mark.parametrize("output", ["saved_models", "photos/cat/deep", "photos", "linked/models", "photos/eel"])
def test_published_models_inside_the_data_set_are_refused_before_any_work(tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    for index, label in enumerate(("cat", "dog")):
        photo(tmp_path / "photos" / label / "0.png", index)
    (tmp_path / "elsewhere" / "eel").mkdir(parents=True)
    (tmp_path / "photos" / "eel").symlink_to("../elsewhere/eel")
    (tmp_path / "linked").symlink_to("photos/dog")
    dataset = "." if output == "saved_models" else "photos"
    train = ["--dataset", dataset, "--offline", "--model", "lenet5", "--saved_models", output]
    status, said = small_disks.call(*train)
    assert status == 2
    name = Path(output).resolve().name
    assert said == (
        f"main.py: error: --saved_models {output}: inside --dataset {dataset}, whose files all count as images; "
        f"expected a folder outside, or a hidden one such as .{name}\n"
    )
    assert not Path(".kcnn").exists()
    with pytest.raises(UserError, match="inside --dataset photos"):
        check_apart("--pipeline_root", tmp_path / "elsewhere" / "eel" / "out", "photos")  # a class is a link to it
    check_apart("--saved_models", tmp_path / "elsewhere" / "models", "photos")


def test_runs_tell_the_data_set(ran):
    folder, _ = ran
    assert {row["dataset"] for row in list_runs(folder / ".kcnn")} == {"photos"}
