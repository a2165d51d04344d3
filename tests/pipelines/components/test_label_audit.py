"""LabelAudit by itself: a network's folder and examples with wrong labels in, a list and a page out."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import kcnn
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion.exclusions import exclude_images
from kcnn.data.ingestion.ingest import ingest
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess
from kcnn.data.records import SPLITS
from kcnn.data.scan.scan import scan_shards
from kcnn.evaluation.embeddings import compute_embeddings
from kcnn.models.taps import penultimate
from kcnn.recipes import build
from kcnn.weights import save_weights
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.scan import Findings
from pipelines.artifacts.training import ModelRun
from pipelines.artifacts.transform import TransformGraph
from pipelines.components.label_audit import label_audit
from pipelines.engine import runner
from pipelines.engine.component import Output, component

WRONG = ("train/light/dark_7.png", "test/dark/light_3.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Dark and light pictures, two of them in the other's folder."""
    folder = tmp_path_factory.mktemp("work") / "photos"
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 10), ("test", 10)):
        for label, shade in (("dark", 60), ("light", 190)):
            for index in range(count):
                others = f"{split}/{'light' if label == 'dark' else 'dark'}/{label}_{index}.png"
                name = others if others in WRONG else f"{split}/{label}/{label}_{index}.png"
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.normal(shade, 25, (32, 32, 3)).clip(0, 255).astype(np.uint8)).save(folder / name)
    return folder


@component
def made_before(
    dataset: str,
    examples: Output[Examples],
    findings: Output[Findings],
    transform_graph: Output[TransformGraph],
    model_run: Output[ModelRun],
) -> None:
    """Make what the audit takes; the network has its first random weights."""
    examples.write_summary(ingest(open_dataset(dataset), examples.path))
    findings.write(scan_shards({split: examples.shards(split) for split in SPLITS}))
    text = json.dumps({"image_size": [32, 32], "crop_fraction": 1.0})
    (transform_graph.path / "preprocessing.json").write_text(text)
    save_weights(kcnn.create_model("lenet5", 2, 32), model_run.weights)
    (model_run.path / "config.json").write_text(build("scratch", model="lenet5").to_json())
    facts = {"weights": None, "weights_loaded": [], "seconds": 0, "best": None, "history": []}
    (model_run.path / "training.json").write_text(json.dumps(facts))


def test_planted_label_errors_are_listed_shown_and_left_where_they_are(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(TransformGraph, "properties", lambda self: {})
    monkeypatch.setattr(Examples, "properties", lambda self: {})
    before = sorted(photos.rglob("*"))
    first = made_before(dataset=str(photos))
    audit = label_audit(dataset="photos", **first.outputs)
    errors = runner.run_nodes([first, audit], tmp_path / "root")["LabelAudit"]["errors"]
    assert sorted(photos.rglob("*")) == before
    assert {path.name for path in errors.path.iterdir()} == {"label_errors.csv", "report.html", "audit.json"}
    with errors.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    sure = [row for row in rows if row["finding"] == "label_error"]
    assert {row["filename"] for row in sure} == set(WRONG)
    row = next(row for row in sure if row["filename"] == WRONG[1])
    assert (row["split"], row["given"], row["suggested"], row["exclude"]) == ("test", "dark", "light", "")
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    assert errors.properties()["images"] == 120
    assert errors.properties()["label_errors"] == 2
    assert errors.properties()["accuracy"] > 0.9
    assert WRONG[0] in errors.page.read_text()

    filled = tmp_path / "filled.csv"  # the list, filled in, is one of exclusions as it is
    with filled.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "exclude": "x" if row in sure else ""} for row in rows)
    left = [source for source in exclude_images(open_dataset(str(photos)), [filled]).sources() if source.label is None]
    assert {source.filename for source in left} == set(WRONG)
    assert {source.reason for source in left} == {f"excluded by {filled}: label_error"}


@pytest.mark.parametrize("name", ["mobilenetv2_0.35", "squeezenet_1.1", "lenet5"])
def test_embeddings_are_what_the_last_layer_takes(name):
    model = kcnn.create_model(name, 3, 64)
    images = np.random.default_rng(0).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    features = penultimate(model)(images, training=False).numpy()
    assert features.ndim == 2
    last = model.get_layer("head_logits")
    if model.layers[-1] is last:
        np.testing.assert_allclose(last(features), model(images, training=False), atol=1e-4)


def test_embeddings_are_of_the_records_in_order_and_leave_no_file(photos, tmp_path):
    ingest(open_dataset(str(photos)), tmp_path / "examples")
    examples = Examples(tmp_path / "examples")
    model, preprocessing = kcnn.create_model("lenet5", 2, 32), Preprocessing((32, 32), crop_fraction=1.0)
    shards = {split: examples.shards(split) for split in SPLITS}
    path = tmp_path / "features.npy"
    with compute_embeddings(model, shards, 120, preprocessing, path) as seen:
        assert path.exists()
        assert seen.features.dtype == np.float32
        assert seen.splits == ("train",) * 80 + ("val",) * 20 + ("test",) * 20
        names = [name.split("/")[1] for name in seen.filenames]
        assert [("dark", "light")[label] for label in seen.labels] == names
        image = (photos / seen.filenames[90]).read_bytes()
        expected = penultimate(model)(preprocess(image, preprocessing)[None], training=False)
        np.testing.assert_allclose(seen.features[90], expected[0], rtol=1e-4, atol=1e-4)
    assert not path.exists()
    with pytest.raises(ValueError, match="half"), compute_embeddings(model, shards, 120, preprocessing, path):
        raise ValueError("half way")
    assert not path.exists()
