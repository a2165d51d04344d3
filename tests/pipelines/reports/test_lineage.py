"""What the metadata answer: lineage and runs, of a pipeline in the form of the main job's and without its work."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from kcnn.errors import UserError
from kcnn.terminal import one_line
from pipelines.engine import runner
from pipelines.engine.component import Artifact, Output, component
from pipelines.reports import drawing, lineage
from pipelines.reports.runs import compare_runs, format_runs, list_runs

MAIN = Path(__file__).parents[3] / "main.py"
NAME = 'red <fox> & "hen"/\N{LATIN SMALL LETTER A WITH RING ABOVE}.jpg'


class Examples(Artifact):
    def properties(self):
        return {"images": {"train": 6, "test": 4}, "excluded": {NAME: "corrupt", "b\udcff.jpg": "empty"}}


class ExampleStatistics(Artifact):
    pass


class Model(Artifact):
    def properties(self):
        return {"sha256": hashlib.sha256((self.path / "weights").read_bytes()).hexdigest()}


class ModelEvaluation(Artifact):
    def properties(self):
        return {"top1": json.loads((self.path / "top1.json").read_text())}


class PushedModel(Artifact):
    def properties(self):
        version = (self.path / "version").read_text()
        return {"version": version, "from_here": os.path.relpath(version, self.path)}


@component
def example_gen(dataset: str, fingerprint: str, examples: Output[Examples]) -> None:
    (examples.path / "data").write_text(fingerprint)


@component
def statistics_gen(examples: Examples, statistics: Output[ExampleStatistics]) -> None:
    (statistics.path / "stats").write_text((examples.path / "data").read_text())


@component
def trainer(config: str, weights: str | None, weights_digest: str, examples: Examples, model: Output[Model]) -> None:
    (model.path / "weights").write_text(config + weights_digest)


@component
def evaluator(examples: Examples, model: Model, evaluation: Output[ModelEvaluation]) -> None:
    epochs = json.loads((model.path / "weights").read_text().partition("}")[0] + "}")["epochs"]
    (evaluation.path / "top1.json").write_text(json.dumps({"value": epochs / 10, "low": 0, "high": 1}))


@component(cached=False)
def pusher(saved_models: str, model: Model, evaluation: ModelEvaluation, pushed: Output[PushedModel]) -> None:
    version = Path(saved_models, "m", str(1 + len(list(Path(saved_models).glob("m/*")))))
    shutil.copytree(model.path, version)
    (pushed.path / "version").write_text(str(version))


def run(folder, epochs=3, weights=None, fingerprint="f1"):
    examples = example_gen(dataset="photos", fingerprint=fingerprint).outputs["examples"]
    statistics = statistics_gen(examples=examples).outputs["statistics"]
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if weights else ""
    config = json.dumps({"model": "m", "epochs": epochs})
    model = trainer(
        config=config, weights=str(weights) if weights else None, weights_digest=digest, examples=examples
    ).outputs["model"]
    evaluation = evaluator(examples=examples, model=model).outputs["evaluation"]
    pushed = pusher(saved_models=str(folder / "saved_models"), model=model, evaluation=evaluation).outputs["pushed"]
    made = runner.run_nodes(
        [port.node for port in (examples, statistics, model, evaluation, pushed)],
        folder / "root",
        pipeline="image_classification",
        record={"command": f"main.py --epochs {epochs}", "commit": "c0ffee", "config": {"dataset": "photos"}},
    )
    return made["Trainer"]["model"].path / "weights"


def main(*arguments, cwd, status=0):
    done = subprocess.run(
        [sys.executable, str(MAIN), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stderr if status else done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four runs: the first; the same with more epochs; one that starts from the first's weights; the first again."""
    folder = tmp_path_factory.mktemp("work")
    weights = run(folder)
    run(folder, epochs=5)
    run(folder, epochs=6, weights=weights, fingerprint="f2")
    run(folder)
    return folder


def by_component(found):
    artifacts = {row["id"]: row for row in found["artifacts"]}
    return {row["component"]: row for row in found["executions"]}, artifacts


def test_a_published_version_tells_what_made_it(folder):
    found = lineage.find_lineage(folder / "root", folder / "saved_models" / "m" / "2")
    executions, artifacts = by_component(found)
    assert set(executions) == {"ExampleGen", "StatisticsGen", "Trainer", "Evaluator", "Pusher"}
    assert len(found["executions"]) == 5
    assert json.loads(executions["Trainer"]["parameters"]["config"])["epochs"] == 5
    assert executions["ExampleGen"]["runs"] == [1]  # which did the work
    assert executions["Trainer"]["runs"] == [2]
    assert [run["command"] for run in found["runs"]] == ["main.py --epochs 3", "main.py --epochs 5"]
    examples = artifacts[executions["Trainer"]["inputs"]["examples"]]
    assert examples["properties"]["images"] == {"train": 6, "test": 4}
    digest = hashlib.sha256(b"f1").hexdigest()
    assert examples["fingerprint"] == hashlib.sha256(f"{digest}  data\n".encode()).hexdigest()
    assert artifacts[executions["Evaluator"]["outputs"]["evaluation"]]["properties"]["top1"]["value"] == 0.5
    assert artifacts[found["artifact"]]["type"] == "PushedModel"
    assert len({row["code"] for row in found["executions"]}) == 1


def test_weights_lead_to_the_run_that_made_them(folder):
    found = lineage.find_lineage(folder / "root", folder / "saved_models" / "m" / "3")
    _, artifacts = by_component(found)
    trainers = {
        json.loads(row["parameters"]["config"])["epochs"]: row
        for row in found["executions"]
        if row["component"] == "Trainer"
    }
    assert set(trainers) == {3, 6}
    assert trainers[6]["inputs"]["weights"] == trainers[3]["outputs"]["model"]
    assert (
        artifacts[trainers[3]["inputs"]["examples"]]["fingerprint"]
        != artifacts[trainers[6]["inputs"]["examples"]]["fingerprint"]
    )


def test_the_last_version_and_the_folders_between(folder):
    root = folder / "root"
    last = lineage.find_lineage(root, folder / "saved_models" / "m")
    assert last["artifact"] == lineage.find_lineage(root, folder / "saved_models" / "m" / "4")["artifact"]
    executions, _ = by_component(last)
    assert executions["Trainer"]["runs"] == [1]  # found finished in the fourth
    assert len(last["executions"]) == 5  # and none of those that the same examples also went to
    model = lineage.find_lineage(root, next((root / "Trainer" / "model").iterdir()) / "weights")
    assert {row["component"] for row in model["executions"]} == {"ExampleGen", "StatisticsGen", "Trainer"}
    with pytest.raises(UserError, match=r"nothing: not made in .*: known are .*m/4, .*m/1"):
        lineage.find_lineage(root, Path("nothing"))


def test_all_of_it_may_be_moved(folder, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    shutil.rmtree(moved / "saved_models" / "m" / "4")
    found = lineage.find_lineage(moved / "root", moved / "saved_models" / "m" / "2")
    assert len(found["executions"]) == 5


def test_the_text_names_everything_once(folder):
    found = lineage.find_lineage(folder / "root", folder / "saved_models" / "m" / "3")
    text = "\n".join(map(one_line, lineage.format_lineage(found)))
    rows = [row.strip() for row in text.splitlines()]
    for line in (
        "fingerprint: f2",
        "fingerprint: f1",
        "config.epochs: 6",
        "top1.value: 0.6",
        "weights: Model in Trainer/model/3",
    ):
        assert rows.count(line) == 1, (line, text)
    for line in ("images.train: 6", "excluded: 2", f"{NAME}: corrupt", "b\\udcff.jpg: empty"):
        assert rows.count(line) == 2, (line, text)  # of the two models' examples
    assert "beside it, statistics: ExampleStatistics in StatisticsGen/statistics/" in text
    assert "run 3: " in text
    assert "commit c0ffee: main.py --epochs 6" in text


def test_the_drawing_is_well_formed_and_nothing_overlaps(folder):
    found = lineage.find_lineage(folder / "root", folder / "saved_models" / "m" / "3")
    svg = ElementTree.fromstring(drawing.draw_lineage(found))
    space = "{http://www.w3.org/2000/svg}"
    page = [float(edge) for edge in svg.attrib["viewBox"].split()]
    boxes = [
        [float(box.attrib[name]) for name in ("x", "y", "width", "height")]
        for box in svg.iterfind(f"{space}g/{space}rect")
    ]
    assert len(boxes) == len(found["executions"]) + len(found["artifacts"])
    for number, (x, y, width, height) in enumerate(boxes):
        assert page[0] <= x <= x + width <= page[0] + page[2]
        assert 0 <= y <= y + height <= page[3]
        for u, v, w, h in boxes[:number]:
            assert x + width <= u or u + w <= x or y + height <= v or v + h <= y
    edges = sum(len(row["inputs"]) + len(row["outputs"]) for row in found["executions"])
    arrows = [path for path in svg.iterfind(f"{space}path") if "marker-end" in path.attrib]
    assert len(arrows) == edges
    titles = [group.find(f"{space}title").text for group in svg.iterfind(f"{space}g")]
    assert sum("red <fox> &" in title for title in titles) == 2


def test_runs(folder):
    rows = list_runs(folder / "root")
    assert [row["run"] for row in rows] == [1, 2, 3, 4]
    assert [row["top1"] for row in rows] == [0.3, 0.5, 0.6, 0.3]
    assert {row["state"] for row in rows} == {"COMPLETE"}
    lines = format_runs(rows)
    assert len(lines) == 5
    assert "60.0%" in lines[3]
    assert "photos" in lines[3]


def test_what_differs_between_runs(folder):
    differences = compare_runs(folder / "root", (1, 3))
    assert differences["configuration"]["Trainer.config.epochs"] == [3, 6]
    assert differences["configuration"]["Trainer.weights"][0] is None
    assert differences["data"]["ExampleGen.fingerprint"] == ["f1", "f2"]
    assert "ExampleGen.examples.fingerprint" in differences["data"]
    assert differences["code"] == {}
    assert differences["metrics"]["Evaluator.evaluation.top1.value"] == [0.3, 0.6]
    assert "ExampleGen.dataset" not in differences["configuration"]
    same = compare_runs(folder / "root", (1, 4))
    assert {head: rows for head, rows in same.items() if rows}.keys() == {"artifacts"}  # where it was pushed
    with pytest.raises(UserError, match="runs 9: no such run; there are 1, 2, 3, 4"):
        compare_runs(folder / "root", (1, 9))


def test_the_commands(folder, tmp_path):
    root = ["--pipeline_root", "root"]
    assert "config.epochs: 5" in main("lineage", "saved_models/m/2", *root, cwd=folder)
    picture = tmp_path / "a.svg"
    found = json.loads(main("lineage", "saved_models/m/2", *root, "--json", "--drawing", picture, cwd=folder))
    assert found == json.loads(
        json.dumps(lineage.find_lineage(folder / "root", folder / "saved_models" / "m" / "2"))
    ) | {"path": "saved_models/m/2"}
    ElementTree.parse(picture)
    assert main("runs", *root, cwd=folder).splitlines()[2].split()[:1] == ["2"]
    assert [json.loads(line)["run"] for line in main("runs", "--json", *root, cwd=folder).splitlines()] == [1, 2, 3, 4]
    lines = [line.split() for line in main("runs", 1, 2, *root, cwd=folder).splitlines()]
    assert ["Trainer.config.epochs", "3", "5"] in lines
    assert ["code", "the", "same"] in lines
    assert json.loads(main("runs", 1, 2, "--json", *root, cwd=folder))["code"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lineage"], "expected one folder"),
        (["lineage", "saved_models/m/9"], "known are"),
        (["runs", "1"], "the numbers of two runs"),
        (["runs", "a", "b"], "the numbers of two runs"),
        (["runs", "1", "7"], "no such run"),
        (["runs", "--pipeline_root", "other"], "no pipeline has run in it"),
        (["lineage", "saved_models/m/1", "--drawing", "none/a.svg"], "--drawing none/a.svg: cannot be written"),
    ],
)
def test_mistakes_are_one_line(folder, arguments, message):
    root = [] if "--pipeline_root" in arguments else ["--pipeline_root", "root"]
    error = main(*arguments, *root, cwd=folder, status=2)
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_classes_of_artifacts_load_no_tensorflow():
    """Reports ask them, and end within a second."""
    code = (
        "import sys; from pipelines.artifacts import find_class\n"
        "assert find_class('Examples').head == 'data' and find_class('Nothing').head == 'artifacts'\n"
        "assert not {'tensorflow', 'keras', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=MAIN.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
