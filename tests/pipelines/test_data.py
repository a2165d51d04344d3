"""The look at a data set, by its command: what it prints, keeps and leaves alone."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import data, runner
from pipelines.artifacts import Findings

MAIN = Path(__file__).parents[2] / "main.py"


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
    return data.Job(dataset=str(dataset), data_dir=None, offline=True, pipeline_root=str(root), command="")


def test_nothing_is_looked_at_twice_and_the_same_bytes_come_out_anew(ran, tmp_path, capsys, monkeypatch):
    folder, _ = ran
    monkeypatch.chdir(folder)
    first = data.run(job(".kcnn", "photos"))
    assert capsys.readouterr().out.count("unchanged") == 6
    second = data.run(job(tmp_path, "photos"))
    assert first.read_bytes() == second.read_bytes()
    prints = [runner.fingerprint(next(root.glob("ImageScan/findings/*"))) for root in (Path(".kcnn"), tmp_path)]
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
