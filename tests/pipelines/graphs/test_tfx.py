"""What a run leaves, read by TFX's own libraries, which need a Python of their own (TFX 1.16: 3.9 or 3.10).

tests/peers/run tfx
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kcnn.data.datasets.opening import open_dataset
from pipelines.components.example_gen import example_gen
from pipelines.components.example_validator import example_validator
from pipelines.components.schema_gen import schema_gen
from pipelines.components.statistics_gen import statistics_gen
from pipelines.components.transform import transform
from pipelines.engine import runner

READER = Path(__file__).with_name("tfx_reader.py")
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Photos whose test split is taller than the others, what kcnn made of them, and what TFX says of that."""
    if "TFX_PYTHON" not in os.environ:
        pytest.skip("needs TFX_PYTHON, an interpreter that has tfx")
    folder = tmp_path_factory.mktemp("work")
    rng = np.random.default_rng(0)
    for split, count, height in (("train", 60, 40), ("val", 30, 40), ("test", 30, 400)):
        for index in range(count):
            path = folder / "photos" / split / ("cat", "dog")[index % 2] / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (height, 48, 3), np.uint8)).save(path)
    dataset = str(folder / "photos")
    examples = example_gen(
        dataset=dataset, data_dir=None, offline=True, fingerprint=open_dataset(dataset).fingerprint, labelled=True
    )
    statistics = statistics_gen(examples=examples.outputs["examples"])
    schema = schema_gen(statistics=statistics.outputs["statistics"])
    validator = example_validator(statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"])
    graph = transform(
        model="mobilenetv2",
        image_size=64,
        examples=examples.outputs["examples"],
        schema=schema.outputs["schema"],
    )
    made = runner.run_nodes([examples, statistics, schema, validator, graph], folder / "root")
    command = [os.environ["TFX_PYTHON"], str(READER), str(folder / "root")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made, json.loads(done.stdout)


def test_import_example_gen_finds_every_example(run):
    made, read = run
    summary = made["ExampleGen"]["examples"].summary()
    assert read["imported"] == read["examples"] == {split: summary.total(split) for split in SPLITS}
    assert read["labels"] == {split: summary.counts[split] for split in SPLITS}


def test_tfdv_finds_the_anomalies_that_kcnn_found(run):
    made, read = run
    kept = made["ExampleValidator"]["anomalies"]
    found = {split: dict(kept.read(split).anomaly_info) for split in SPLITS}
    assert read["anomalies"] == {
        split: {name: info.short_description for name, info in infos.items()} for split, infos in found.items()
    }
    # What the schema alone decides; skew is against the training split, which TFDV is not given here.
    assert set(read["validated"]["test"]) <= set(found["test"])
    assert "image/height" in read["validated"]["test"]
    assert read["validated"]["train"] == read["validated"]["val"] == {}


def test_tfx_measures_the_examples_without_anomaly(run):
    _, read = run
    assert read["tfx_anomalies"]["train"] == read["tfx_anomalies"]["val"] == {}
    assert read["html"] > 0


def test_tf_transform_reads_the_transform(run):
    _, read = run
    assert read["transformed"] == {"image": [[64, 64, 3], "float32"], "label": [[], "int64"]}
