"""Training steps of MobileNetV2 (96x96, batch 32, float32): this project's against keras.applications'.

Forward, backward and update in one `tf.function`, the same loss and optimizer, on the same random images, in turns
within one run. keras.applications' gets its images normalised beforehand; this project's normalises them itself.

    python tests/benchmarks/train_step.py [--rounds 10] [--steps 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

import kcnn

SIZE, BATCH, CLASSES = 96, 32, 1000


def training_step(model: keras.Model) -> Callable:
    """(images, labels) → loss, after which the weights have moved."""
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return step


def main() -> None:
    """Prints the images per second of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="of each model in a round")
    flags = parser.parse_args()

    rng = np.random.default_rng(0)
    images = tf.constant(rng.uniform(0, 255, (BATCH, SIZE, SIZE, 3)), tf.float32)
    labels = tf.one_hot(rng.integers(0, CLASSES, BATCH), CLASSES)
    ours = kcnn.create_model("mobilenetv2", CLASSES, SIZE, dropout=0.0)
    theirs = keras.applications.MobileNetV2((SIZE, SIZE, 3), weights=None, classifier_activation=None)
    contestants = {
        "kcnn": (training_step(ours), images),
        "keras.applications": (training_step(theirs), images / 127.5 - 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for name, (step, inputs) in contestants.items():
        print(f"{name}: first loss {float(step(inputs, labels)):.3f}")
        step(inputs, labels)
    for _ in range(flags.rounds):
        for name, (step, inputs) in contestants.items():
            start = time.perf_counter()
            for _ in range(flags.steps):
                loss = step(inputs, labels)
            float(loss)
            seconds[name].append((time.perf_counter() - start) / flags.steps)
    for name, times in seconds.items():
        print(f"{name}: {BATCH / statistics.median(times):.0f} img/s")
    ratios = [b / a for a, b in zip(seconds["kcnn"], seconds["keras.applications"], strict=True)]
    print(f"ratio: {statistics.median(ratios):.2f} (rounds from {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
