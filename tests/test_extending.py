"""What the README says of adding an architecture, a data set, an augmentation: one file each, and nothing else."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

MODEL = """
from functools import partial
import keras
from kcnn.models.spec import ModelSpec, register

def features(x, ops, *, filters):
    for stage, channels in enumerate(filters, start=1):
        x = ops.activate(ops.conv(x, channels, 5, use_bias=True, name=f"stage{stage}_conv"), name=f"stage{stage}_act")
        x = keras.layers.AveragePooling2D(2, name=f"stage{stage}_pool")(x)
    return x

register(ModelSpec(
    "tiny5", family="tiny", features=partial(features, filters=(6, 16)), paper="none", year=2026, input_size=32,
    min_size=8, params=0, macs=0, preprocessing="tf", design={"activation": "relu", "kernel_initializer": "he_normal"},
))
"""
DATASET = """
import io
import numpy as np
from PIL import Image
from kcnn.data.datasets import DATASETS, Dataset, ImageSource

def png(index):
    buffer = io.BytesIO()
    noise = np.random.default_rng(index).integers(0, 40, (16, 16, 3))
    Image.fromarray((noise + 200 * (index % 2)).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()

@DATASETS.register("squares")
def load():
    def sources():
        for index in range(80):
            yield ImageSource(f"{index}.png", ("dark", "light")[index % 2], None, lambda index=index: png(index))
    return Dataset(name="squares", labels=("dark", "light"), sources=sources, count=80, fingerprint="squares 1")
"""
AUGMENTATION = """
import tensorflow as tf
from kcnn.data.input_pipeline.augmentations import per_image

@per_image("grey")
def grey(image, seed):
    return tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
"""
RUN = """
import sys
import kcnn.models, kcnn.data.datasets, kcnn.data.input_pipeline.augmentations
kcnn.models.__path__.append("models")
kcnn.data.datasets.__path__.append("datasets")
kcnn.data.input_pipeline.augmentations.__path__.append("augmentations")
from pipelines.command_line import run
flags = "--model Tiny-5 --dataset squares --augment grey --epochs 1 --to Pusher"
sys.exit(run(["main.py", *flags.split()]))
"""


def test_a_new_model_data_set_and_augmentation_take_part_in_the_main_job(tmp_path):
    files = {
        "models/tiny.py": MODEL,
        "datasets/squares.py": DATASET,
        "augmentations/grey.py": AUGMENTATION,
        "run.py": RUN,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    command = [sys.executable, "run.py"]
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Published: saved_models/tiny5/1" in done.stdout
