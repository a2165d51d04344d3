"""Crops per second of a distillation, part by part: making crops, the teacher's answers, a step of the student, all.

    python tests/benchmarks/distillation.py [--teacher efficientnetlite0] [--size 96] [--batch 64] [--steps 8]

The processor time per crop is the steadier figure when other programs are running.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from kcnn.data import examples
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion import ingest
from kcnn.data.input_pipeline.batches import TrainingShards
from kcnn.recipes import build
from kcnn.training.distillation import TaughtModel, distillation_loss, freeze_teacher, load_teacher, picture_crops
from kcnn.training.fused_optimizers import Adam
from kcnn.training.network import build_network
from kcnn.weights.inheritance import inherit_weights


def measure(name, function, batch, steps):
    """Call a function once, then `steps` times, and print crops a second and processor seconds for a thousand."""
    function()
    began, busy = time.perf_counter(), time.process_time()
    for _ in range(steps):
        function()
    seconds, busy = time.perf_counter() - began, time.process_time() - busy
    count = batch * steps
    print(f"{name:<24}{count / seconds:8.0f} crops/s   {1000 * busy / count:6.2f} ms of processor a crop", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="efficientnetlite0")
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    config = build(
        "distill", model=given.model, teacher=given.teacher, batch_size=given.batch, dtype=given.dtype, seed=0
    )
    with tempfile.TemporaryDirectory() as folder:
        summary = ingest.ingest(open_dataset("pictures", labelled=False), Path(folder))
        paths = examples.shard_paths(folder, "train")
        shards = TrainingShards(paths, summary.total("train"), summary.mean_bytes)
        batches = iter(picture_crops(config, shards, given.size, 10**6, range(1)))
        for _ in range(4):  # beyond what is made ahead
            images = next(batches)
        measure("crops", lambda: next(batches), given.batch, 4 * given.steps)
        teacher = load_teacher(config, 1000, given.size)
        answer = freeze_teacher(teacher)
        forward = tf.function(answer)
        measure("teacher", lambda: forward(images).numpy(), given.batch, given.steps)
        student = build_network(config, 1000, given.size)
        inherit_weights(student, teacher, [images])
        logits = forward(images)
        for name, answers in (("student", lambda images: logits), ("teacher and student", answer)):
            taught = TaughtModel.of(student, answers, inherited=True)
            taught.compile(optimizer=Adam(1e-4, weight_decay=0.004), loss=distillation_loss(config.temperature))
            step = tf.function(taught.train_step)
            measure(
                name,
                lambda step=step: keras.tree.map_structure(float, step((images, logits))),
                given.batch,
                given.steps,
            )
        measure("all", lambda: keras.tree.map_structure(float, step((next(batches), logits))), given.batch, given.steps)


if __name__ == "__main__":
    main()
