"""Trainer and Pretrainer after they have finished: what a kill before the publication leaves is not trained again."""

import keras
import numpy as np
import pytest
from PIL import Image

from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion.ingest import ingest
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.recipes import build
from pipelines.artifacts.examples import Examples
from pipelines.artifacts.training import Backbone, ModelRun
from pipelines.artifacts.transform import TransformGraph
from pipelines.components.pretrainer import pretrainer
from pipelines.components.trainer import trainer

CONFIG = {"model": "lenet5", "epochs": 1, "batch_size": 8, "image_size": 32, "augmentations": ()}


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    rng = np.random.default_rng(0)
    for label, shade in (("dark", 60), ("light", 190)):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(20):
            pixels = rng.normal(shade, 25, (32, 32, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{index}.png")
    artifact = Examples(folder / "made")
    artifact.path.mkdir()
    artifact.write_summary(ingest(open_dataset(str(folder / "photos")), artifact.path))
    return artifact


@pytest.fixture
def no_more_training(monkeypatch):
    """Return a function after which no network is trained."""

    def refuse(*_, **__):
        raise AssertionError("it trains again")

    return lambda: monkeypatch.setattr(keras.Model, "fit", refuse)


def kept(artifact):
    """Return name → bytes of what the artifact keeps."""
    scratch = {path for pattern in artifact.scratch for path in artifact.path.glob(pattern)}
    files = [path for path in artifact.path.iterdir() if path.is_file() and path not in scratch]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("kill", ["after the end", "before the weights have their name"])
def test_a_finished_training_is_not_repeated(examples, tmp_path, no_more_training, kill):
    transform_graph, model_run = TransformGraph(tmp_path / "transform"), ModelRun(tmp_path / "1.partial")
    for artifact in (transform_graph, model_run):
        artifact.path.mkdir()
    transform_graph.write_preprocessing(Preprocessing((32, 32), crop_fraction=1.0))
    inputs = {"examples": examples, "transform_graph": transform_graph, "model_run": model_run}
    parameters = {"config": build("scratch", **CONFIG).to_json(), "weights": None, "weights_digest": ""}
    trainer.function(**parameters, **inputs)
    made = kept(model_run)
    assert set(made) == {"weights.safetensors", "config.json", "training.json"}
    if kill == "before the weights have their name":
        model_run.weights.rename(model_run.path / "best.safetensors")
        (model_run.path / "training.json").unlink()
    no_more_training()
    trainer.function(**parameters, **inputs)
    again = kept(model_run)
    assert set(again) == set(made)
    assert again["weights.safetensors"] == made["weights.safetensors"]
    assert len(model_run.training()["history"]) == 1


def test_a_finished_pretraining_is_not_repeated(examples, tmp_path, no_more_training):
    backbone = Backbone(tmp_path / "1.partial")
    backbone.path.mkdir()
    named = {"weights": None, "weights_digest": "", "teacher_digest": ""}
    parameters = {"config": build("pretrain", **CONFIG).to_json(), **named, "record": {}}
    pretrainer.function(**parameters, examples=examples, backbone=backbone)
    made = kept(backbone)
    assert set(made) == {"backbone.safetensors", "backbone.json"}
    no_more_training()
    pretrainer.function(**parameters, examples=examples, backbone=backbone)
    assert kept(backbone)["backbone.safetensors"] == made["backbone.safetensors"]
    assert len(backbone.provenance()["history"]) == 1
