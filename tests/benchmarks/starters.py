"""The gain from starter weights: fine-tuning on few images and on many, against training from scratch.

Both sides get the same images, batches, steps, optimizer and schedule, hence the same time; they differ in the weights
of the backbone alone. Accuracy is on the data set's whole test split, after the last step, over the answers of all
seeds together, with their 95% interval (Wilson) and the worst and best seed; a seed draws the images, the head and the
batches.

    python tests/benchmarks/starters.py [--dataset digits | --dataset FOLDER] [--model mobilenetv2] [--weights starter]
"""

import argparse
import collections
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kcnn
from kcnn.data import examples
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion.ingest import ingest
from kcnn.data.ingestion.summary import Summary
from kcnn.data.input_pipeline.batches import TrainingShards, evaluation_batches, training_batches
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.evaluation.metrics import proportion
from kcnn.models.spec import model_spec
from kcnn.recipes import scratch
from kcnn.training.adaptation import adapt_phase, choose_image_size
from kcnn.training.optimizers import build_optimizer
from kcnn.training.schedules import warmup_cosine

BATCH = 32
RECIPE = scratch()


def subset(records: list[tuple[int, bytes]], shots: int | None, seed: int, path: Path) -> int:
    """Write `shots` records of each class (all for None), drawn by `seed`, to one shard; return their number."""
    taken: collections.Counter[int] = collections.Counter()
    options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=0)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for index in np.random.default_rng(seed).permutation(len(records)):
            label, record = records[index]
            if shots is None or taken[label] < shots:
                writer.write(record)
                taken[label] += 1
    return taken.total()


class Contest:
    """One network, its training step and its optimizer, traced once and set back for every run."""

    def __init__(self, name: str, summary: Summary, directory: Path):
        self.name, self.summary = name, summary
        self.size = choose_image_size(model_spec(name), 2 * summary.median_side)
        self.preprocessing = Preprocessing((self.size, self.size), crop_fraction=1.0)
        self.phase = adapt_phase(RECIPE.phases[0], summary)
        self.model = self.network(0)
        self.optimizer = build_optimizer(RECIPE.optimizer, self.model, schedule=0.0, weight_decay=RECIPE.weight_decay)
        self.blank = [variable.numpy() for variable in self.optimizer.variables]
        self.test = evaluation_batches(
            examples.shard_paths(directory, "test"),
            num_classes=len(summary.labels),
            batch_size=256,
            preprocessing=self.preprocessing,
        )
        self.predict = tf.function(lambda images: self.model(images, training=False), reduce_retracing=True)
        self.step = self._step()

    def network(self, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        return kcnn.create_model(self.name, len(self.summary.labels), self.size)

    def _step(self) -> Callable:
        loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=RECIPE.label_smoothing)

        @tf.function
        def step(images, labels):
            with tf.GradientTape() as tape:
                loss = loss_of(labels, self.model(images, training=True))
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return loss

        return step

    def run(
        self, shard: Path, count: int, steps: int, rate: float, weights: str | None, seed: int
    ) -> tuple[float, float]:
        """Train from the beginning; return the accuracy on the test split and the seconds of training."""
        start = self.network(seed)
        if weights:
            kcnn.load_weights(start, weights)
        self.model.set_weights(start.get_weights())
        for variable, value in zip(self.optimizer.variables, self.blank, strict=True):
            variable.assign(value)
        schedule = warmup_cosine(rate, steps, self.phase.warmup)
        batches = training_batches(
            TrainingShards([str(shard)], count, self.summary.mean_bytes),
            num_classes=len(self.summary.labels),
            batch_size=BATCH,
            preprocessing=self.preprocessing,
            augmentations=[name for name in self.phase.augmentations if name == "flip"],
            crop_scale=self.phase.crop_scale,
            seed=seed,
            epochs=range(1 + steps // (count // BATCH)),
        )
        began = time.monotonic()
        for index, (images, labels) in enumerate(batches.take(steps)):
            self.optimizer.learning_rate.assign(schedule(index))
            self.step(images, labels)
        seconds = time.monotonic() - began
        hits = [
            np.argmax(self.predict(images), 1) == np.argmax(labels, 1)
            for images, labels in self.test.as_numpy_iterator()
        ]
        return float(np.concatenate(hits).mean()), seconds


def main() -> None:
    """Print a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--weights", default="starter")
    parser.add_argument("--shots", nargs="+", default=["10", "50", "200", "all"], help="images of each class")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400, help=f"of {BATCH} images")
    parser.add_argument("--rate", type=float, default=RECIPE.phases[0].learning_rate, help="peak learning rate")
    flags = parser.parse_args()
    sides = {"scratch": None, "pretrained": flags.weights}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        summary = ingest(open_dataset(flags.dataset, offline=True), directory)
        shards = examples.shard_paths(directory, "train")
        records = [
            (int(examples.parse_example(record)["label"]), record.numpy()) for record in examples.read_examples(shards)
        ]
        contest = Contest(flags.model, summary, directory)
        images = f"{summary.total('test')} test images"
        print(f"{flags.model}, {flags.dataset}, {flags.steps} steps of {BATCH}, {flags.seeds} seeds, {images}")
        for shots in flags.shots:
            found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
            for seed in range(flags.seeds):
                shard = directory / "subset.gz"
                count = subset(records, None if shots == "all" else int(shots), seed, shard)
                for side, runs in found.items():
                    runs.append(contest.run(shard, count, flags.steps, flags.rate, sides[side], seed))
            cells = []
            for side, runs in found.items():
                accuracies, seconds = zip(*runs, strict=True)
                tests = summary.total("test") * len(runs)
                share = proportion(round(sum(accuracies) / len(runs) * tests), tests)
                cells.append(
                    f"{side} {share['value']:.1%} ({share['low']:.1%} to {share['high']:.1%}; "
                    f"seeds {min(accuracies):.1%} to {max(accuracies):.1%}; {np.mean(seconds):.0f} s)"
                )
            print(f"{shots:>4} a class, {count} images: " + "; ".join(cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
