"""Data validation by its components: what they leave on the disk, in TFX's layout, and what they say."""

import hashlib
import json

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from kcnn.data.datasets.opening import open_dataset
from kcnn.data.scan.findings import Finding, Scan
from kcnn.errors import UserError
from kcnn.evaluation.label_errors import Audit, LabelError
from kcnn.recipes import build
from pipelines.artifacts.audit import LabelErrors
from pipelines.artifacts.blessing import InfraBlessing, ModelBlessing
from pipelines.artifacts.evaluation import ModelEvaluation
from pipelines.artifacts.pushing import PushedModel
from pipelines.artifacts.scan import DataPage, Findings
from pipelines.artifacts.training import ModelRun
from pipelines.components.example_gen import example_gen
from pipelines.components.example_validator import example_validator
from pipelines.components.schema_gen import schema_gen
from pipelines.components.statistics_gen import statistics_gen
from pipelines.engine import runner
from pipelines.graphs import image_classification
from pipelines.graphs.publication import Publication
from pipelines.reports import summary


def photo(path, seed, size=(48, 36), bright=120):
    rng = np.random.default_rng(seed)
    pixels = rng.normal(bright + rng.normal(0, 20), 30, (size[1], size[0], 3)).clip(0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "JPEG")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photos in splits: val like train, test in part huge, dark and almost all of one class."""
    folder = tmp_path_factory.mktemp("work") / "photos"
    for index in range(120):
        photo(folder / "train" / ("cat", "dog")[index % 2] / f"{index}.jpg", index)
    for index in range(60):
        photo(folder / "val" / ("cat", "dog")[index % 2] / f"{index}.jpg", 1000 + index)
        photo(folder / "test" / ("cat", "dog")[index < 2] / f"{index}.jpg", 2000 + index, bright=40)
    photo(folder / "test" / "cat" / "huge.jpg", 3000, size=(400, 300), bright=40)
    return folder


def graph(dataset, **arguments):
    fingerprint = open_dataset(str(dataset)).fingerprint
    examples = example_gen(dataset=str(dataset), data_dir=None, offline=True, fingerprint=fingerprint, labelled=True)
    statistics = statistics_gen(examples=examples.outputs["examples"])
    schema = schema_gen(statistics=statistics.outputs["statistics"], **arguments)
    outputs = {"statistics": statistics.outputs["statistics"], "schema": schema.outputs["schema"]}
    return [examples, statistics, schema, example_validator(**outputs)]


@pytest.fixture(scope="module")
def ran(folder):
    root = folder.parent / "root"
    made = runner.run_nodes(graph(folder), root)
    return root, made


def test_the_layout_is_that_of_tfx(ran):
    root, _ = ran
    for split, count in (("train", 120), ("val", 60), ("test", 61)):
        (path,) = root.glob(f"StatisticsGen/statistics/*/Split-{split}/FeatureStats.pb")
        (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(path.read_bytes()).datasets
        assert (dataset.name, dataset.num_examples) == (split, count)
        (path,) = root.glob(f"ExampleValidator/anomalies/*/Split-{split}/SchemaDiff.pb")
        assert anomalies_pb2.Anomalies.FromString(path.read_bytes()).baseline.feature
    (path,) = root.glob("SchemaGen/schema/*/schema.pbtxt")
    schema = text_format.Parse(path.read_text(), schema_pb2.Schema())
    assert {domain.name: list(domain.value) for domain in schema.string_domain} == {
        "image/class/text": ["cat", "dog"],
        "image/format": ["JPEG"],
    }


def test_what_departs_is_said_in_a_line_each(ran, folder, capsys, tmp_path):
    _, made = ran
    lines = made["ExampleValidator"]["anomalies"].lines()
    named = {line.split(": ")[1] for line in lines}
    assert all(line.startswith("test: ") for line in lines)
    assert named >= {f"image/{name}" for name in ("class/text", "brightness", "height", "width", "bytes")}
    assert not named & {"image/format", "image/aspect", "image/channels"}
    runner.run_nodes(graph(folder), tmp_path)
    said = capsys.readouterr().out
    assert all(f"Warning: {line}\n" in said for line in lines)


def test_an_edited_schema_is_the_one_that_counts(ran, folder, tmp_path):
    _, made = ran
    schema = made["SchemaGen"]["schema"].read()
    for feature in schema.feature:
        feature.ClearField("skew_comparator")
        feature.ClearField("float_domain")
        if feature.name in ("image/height", "image/width", "image/bytes"):
            feature.int_domain.max = 10**6
    path = tmp_path / "mine.pbtxt"
    path.write_text(text_format.MessageToString(schema))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    made = runner.run_nodes(graph(folder, schema_file=str(path), schema_digest=digest), tmp_path / "root")
    assert made["SchemaGen"]["schema"].read() == schema
    assert not made["ExampleValidator"]["anomalies"].lines()
    path.write_text("")
    with pytest.raises(UserError, match=r"mine\.pbtxt: changed since the run began"):
        runner.run_nodes(graph(folder, schema_file=str(path), schema_digest=digest), tmp_path / "other root")
    with pytest.raises(UserError, match=r"none\.pbtxt: cannot be read"):
        runner.run_nodes(graph(folder, schema_file=str(tmp_path / "none.pbtxt")), tmp_path / "root")


def test_the_digits_are_in_order(tmp_path, capsys):
    made = runner.run_nodes(graph("digits"), tmp_path)
    assert not made["ExampleValidator"]["anomalies"].lines()
    assert "Warning" not in capsys.readouterr().out


def test_the_main_job_validates_between_reading_and_training(tmp_path):
    job = image_classification.TrainingJob(
        config=build("scratch"),
        publication=Publication(name="a", saved_models=str(tmp_path)),
        pipeline_root=str(tmp_path),
        command="",
    )
    names = [node.name for node in image_classification.graph(job, None, "")]
    assert names[:6] == [
        "ExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "ImageScan", "DataReport",
    ]  # fmt: skip
    assert names.index("Trainer") > 5
    assert names[-1] == "LabelAudit"


def test_all_that_reads_images_runs_on_beam_where_that_is_asked_for(tmp_path):
    beam = ["--runner=FlinkRunner"]
    job = image_classification.TrainingJob(
        config=build("scratch"),
        publication=Publication(name="a", saved_models=str(tmp_path)),
        pipeline_root=str(tmp_path),
        command="",
        beam=beam,
    )
    nodes = {node.name: node.parameters.get("beam") for node in image_classification.graph(job, None, "")}
    assert [name for name, found in nodes.items() if found] == ["ExampleGen", "StatisticsGen", "ImageScan"]


def test_the_report_repeats_what_was_found_in_the_data(ran, tmp_path):
    _, made = ran
    kinds = {
        "Evaluator": {"evaluation": ModelEvaluation},
        "Gate": {"blessing": ModelBlessing},
        "InfraValidator": {"blessing": InfraBlessing},
        "Pusher": {"pushed": PushedModel},
        "Trainer": {"model_run": ModelRun},
        "ImageScan": {"findings": Findings},
        "DataReport": {"report": DataPage},
        "LabelAudit": {"errors": LabelErrors},
    }
    made = made | {node: {name: kind(tmp_path / node / name) for name, kind in kinds[node].items()} for node in kinds}
    for folder in (artifact.path for node in kinds for artifact in made[node].values()):
        folder.mkdir(parents=True)
    evaluation = made["Evaluator"]["evaluation"]
    evaluation.report.mkdir()
    metrics = {"examples": 61, "top1": {"value": 0.5, "low": 0.4, "high": 0.6}, "slices": []}
    (evaluation.report / "metrics.json").write_text(json.dumps(metrics))
    made["Gate"]["blessing"].write([], {"warnings": []})
    made["InfraValidator"]["blessing"].write([], {})
    made["Pusher"]["pushed"].write(tmp_path / "1")
    leak = Finding("leak", ("a", "b"), ("train", "test"), ("cat", "cat"), 1.0, 0.9, "identical")
    blanks = [Finding("blank", (name,), ("train",), ("cat",), 0.0, 3.0) for name in "cd"]
    tiny = Finding("tiny", ("e",), ("train",), ("cat",), 9, 32)
    made["ImageScan"]["findings"].write(Scan(181, (leak, *blanks, tiny), {}))
    errors = [LabelError(f"{i}.jpg", "train", "cat", "dog", 0.01, 0.9, wrong=i < 12) for i in range(20)]
    made["LabelAudit"]["errors"].write(Audit((), 181, 0.9, 0.9, by_heart=False), "", errors, "")
    reported = summary.summarize_run(made)
    page = tmp_path / "DataReport" / "report" / "report.html"
    warned = [
        *made["ExampleValidator"]["anomalies"].lines(),
        f"Leaks: one picture in several splits: 1 group, see {page}#leak",
        f"Blank: 2 images, see {page}#blank",
    ]
    assert reported[: len(warned)] == [f"Warning: {line}" for line in warned]
    assert not reported[len(warned)].startswith("Warning")
    assert f"12 images look mislabelled: {tmp_path / 'LabelAudit' / 'errors' / 'report.html'}" in reported
