"""`--preprocess` from the command line: fitted in Trainer, recorded, and in what answers afterwards."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from safetensors.numpy import load_file

from kcnn.config import Config
from kcnn.data.examples import shard_paths
from kcnn.data.input_pipeline.batches import evaluation_batches
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.training.network import inference_network
from pipelines.command_line import run


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Make 24 grey images of each of two classes, in a folder that is the current one."""
    random = np.random.default_rng(0)
    for label, shade in (("dark", 60), ("light", 180)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(24):
            pixels = random.normal(shade, 30, (32, 32)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments):
    return run(
        ["main.py", "--dataset", "photos", "--model", "lenet5", "--image_size", "32", "--epochs", "1", *arguments]
    )


@pytest.mark.slow
def test_trainer_fits_and_records_it(photos):
    assert call("--preprocess", "standardize", "--channels", "1", "--to", "Trainer") == 0
    (folder,) = (photos / ".kcnn" / "Trainer" / "model_run").iterdir()
    assert Config.from_json((folder / "config.json").read_text()).preprocess == "standardize"
    found = json.loads((folder / "training.json").read_text())["preprocess"]
    (examples,) = (photos / ".kcnn" / "ExampleGen" / "examples").iterdir()
    batches = evaluation_batches(
        shard_paths(examples, "train"),
        num_classes=2,
        batch_size=99,
        preprocessing=Preprocessing((32, 32), crop_fraction=1.0),
    )
    pixels = np.concatenate([images.numpy() for images, _ in batches])[..., 0]
    assert found["images"] == len(pixels) < 48
    assert found["layers"] == ["preprocess_mean", "preprocess_deviation"]
    assert found["mean"] == pytest.approx([pixels.mean(dtype=float)], abs=1e-2)
    assert found["deviation"] == pytest.approx([pixels.std(dtype=float)], abs=1e-2)
    weights = load_file(folder / "weights.safetensors")
    np.testing.assert_allclose(weights["preprocess_mean/mean"], found["mean"], atol=1e-3)
    assert weights["stage1_conv/kernel"].shape == (5, 5, 1, 6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["none", "mean_image", "mean", "standardize", "pca", "zca"])
def test_what_is_exported_answers_as_what_was_trained(photos, mode):
    assert call("--preprocess", mode, "--to", "Exporter") == 0
    (folder,) = (photos / ".kcnn" / "Trainer" / "model_run").iterdir()
    config = Config.from_json((folder / "config.json").read_text())
    model = inference_network(config, 2, 32, folder / "weights.safetensors")
    files = sorted((photos / "photos").glob("*/*.png"))
    images = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float32) for file in files])
    (exported,) = (photos / ".kcnn" / "Exporter" / "model").iterdir()
    signature = tf.saved_model.load(str(exported / "Format-Serving")).signatures["serving_default"]
    found = signature(image_bytes=tf.constant([file.read_bytes() for file in files]))["logits"]
    np.testing.assert_allclose(found, model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--preprocess", "zac"], "--preprocess 'zac': did you mean 'zca'?"),
        (["--preprocess", "zca", "--finetune"], "--preprocess zca: pretrained weights"),
        (["--preprocess", "zca", "--image_size", "64"], "preprocessing 'zca' at 64x64: "),
        (["--channels", "4"], "--channels 4: choose from 1, 3"),
    ],
)
def test_mistakes_are_one_line_before_any_work(photos, capsys, arguments, line):
    assert call(*arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert line in said[0]
    assert not (photos / ".kcnn").exists()
