"""Training steps of every architecture that keras.applications has too: this project's against theirs.

Forward, backward and update in one `tf.function`, the same loss, 1000 classes, on the same random images, in turns
within one run; each side's time is that of its fastest turn. Both networks are as they are built by default,
regularisation included. keras.applications' get their images prepared beforehand where they ask for it; this project's
prepare them themselves. The optimizer computes the same for both, AdamW, or with `--optimizer sgd` descent with
momentum: this project's own for its networks, as it trains them, and Keras' for keras.applications'; Keras' for both
with `--keras_optimizer`. The batch is what
makes a step of about `--macs` multiply-adds, 4 to 32 images.

    python tests/benchmarks/zoo.py [--all | --family NAME... | --names NAME...] [--size 96] [--rounds 8] [--steps 1]
        [--optimizer adamw] [--keras_optimizer] [--share]

Without a choice, the smallest architecture of each family. With `--share`, keras.applications' network without its
batch normalisations takes turns too: what part of a step they are. Where it is less than a third, a step in which they
cost nothing would be less than 1.5 times as fast.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kcnn
from kcnn.models.spec import MODELS, ModelSpec
from kcnn.training.fused_optimizers import SGD, Adam

CLASSES = 1000


OPTIMIZERS = {"adamw": {"weight_decay": 1e-4}, "sgd": {"momentum": 0.9, "nesterov": True}}


def training_step(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> Callable:
    """Return a function that makes one training step: (images, labels) → loss."""
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return step


class Nothing(keras.layers.Layer):
    """A layer in the place of a batch normalisation, which changes nothing."""

    def call(self, inputs, training=None, mask=None):
        return inputs


def without_batch_norm(model: keras.Model) -> keras.Model:
    """Return a network of the same layers, whose batch normalisations change nothing."""

    def clone(layer: keras.Layer) -> keras.Layer:
        if isinstance(layer, keras.layers.BatchNormalization):
            return Nothing(name=layer.name)
        return type(layer).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=clone)


def compare(
    spec: ModelSpec, size: int, batch: int, *, rounds: int, steps: int, optimizers: Sequence[Callable], share: bool
) -> list[float]:
    """Measure images per second: ours, theirs, and with `share` theirs without batch norm.

    `optimizers` make an optimizer for ours and for theirs.
    """
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (batch, size, size, 3)).astype(np.float32)
    labels = tf.one_hot(rng.integers(0, CLASSES, batch), CLASSES)
    function = getattr(keras.applications, spec.application.function)
    prepared = sys.modules[function.__module__].preprocess_input(images.copy())
    theirs = function(
        weights=None, input_shape=(size, size, 3), classifier_activation=None, **spec.application.arguments
    )
    ours = kcnn.create_model(spec.name, CLASSES, size)
    mine, stock = optimizers
    entered = [(ours, images, mine), (theirs, prepared, stock)]
    if share:
        entered.append((without_batch_norm(theirs), prepared, stock))
    contestants = [(training_step(model, optimizer()), tf.constant(x)) for model, x, optimizer in entered]
    for step, inputs in contestants:
        for _ in range(2):  # the first call traces the function, the second finds its buffers
            float(step(inputs, labels))
    best = [float("inf")] * len(contestants)
    for _ in range(rounds):
        for index, (step, inputs) in enumerate(contestants):
            start = time.perf_counter()
            for _ in range(steps):
                loss = step(inputs, labels)
            float(loss)
            best[index] = min(best[index], (time.perf_counter() - start) / steps)
    return [batch / seconds for seconds in best]


def chosen(flags: argparse.Namespace) -> list[ModelSpec]:
    """Return the requested architectures that keras.applications has."""
    shared = [spec for spec in map(MODELS.get, MODELS) if spec.application]
    if flags.names:
        return [MODELS.get(name) for name in flags.names]
    if flags.all or flags.family:
        return [spec for spec in shared if flags.all or spec.family in flags.family]
    smallest = {spec.family: spec for spec in sorted(shared, key=lambda spec: -spec.macs)}
    return sorted(smallest.values(), key=lambda spec: spec.name)


def main() -> None:
    """Print a line for each architecture, then the least ratio and all ratios below 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", nargs="+", help="these")
    parser.add_argument("--family", nargs="+", help="all of these families")
    parser.add_argument("--all", action="store_true", help="all of all families")
    parser.add_argument(
        "--size", type=int, default=96, help="pixels a side, or the architecture's least if that is more"
    )
    parser.add_argument("--batch", type=int, help="images, whatever a step then costs")
    parser.add_argument("--macs", type=float, default=16e9, help="forward multiply-adds that the batch is to make up")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=1, help="of each of the two in a round")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adamw")
    parser.add_argument("--keras_optimizer", action="store_true", help="Keras' for both")
    parser.add_argument("--share", action="store_true", help="and how much of keras.applications' step is batch norm")
    flags = parser.parse_args()

    kinds = {"adamw": (Adam, keras.optimizers.AdamW), "sgd": (SGD, keras.optimizers.SGD)}[flags.optimizer]
    optimizers = [
        functools.partial(kinds[1] if flags.keras_optimizer else kind, 1e-3, **OPTIMIZERS[flags.optimizer])
        for kind in kinds
    ]
    ratios: dict[str, float] = {}
    print(f"{'name':<24} {'size':>4} {'batch':>5} {'kcnn':>8} {'keras':>8}  ratio   (images per second)")
    for spec in chosen(flags):
        size = max(flags.size, spec.min_size)
        batch = flags.batch or int(min(max(flags.macs / (spec.macs * (size / spec.input_size) ** 2), 4), 32))
        ours, theirs, *bare = compare(
            spec, size, batch, rounds=flags.rounds, steps=flags.steps, optimizers=optimizers, share=flags.share
        )
        ratios[spec.name] = ours / theirs
        line = f"{spec.name:<24} {size:>4} {batch:>5} {ours:>8.1f} {theirs:>8.1f} {ours / theirs:>6.2f}"
        if bare:
            line += f"  (batch norm: {1 - theirs / bare[0]:.0%} of keras.applications' step)"
        print(line, flush=True)
        keras.backend.clear_session(free_memory=True)
    slower = [name for name, ratio in ratios.items() if ratio < 1]
    print(f"least ratio: {min(ratios.values()):.2f}; below 1: {', '.join(slower) or 'none'}")


if __name__ == "__main__":
    main()
