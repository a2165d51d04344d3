"""Latency of an export: this project's against keras.applications' own `export()` of the same architecture.

Both SavedModels are loaded by TensorFlow alone in this process and asked for the same pictures as float32 pixels of the
network's size, in turns; beside them, as the mark to approach, OpenVINO and ONNX Runtime with the same weights, on the
formats that this project's export writes.

All have the weights of one network that knows the photos: the starter's backbone, or, of an architecture without one, a
random one whose residual branches are small (as those of networks that can be trained), its batch norm's statistics
measured on the photos; and a linear head that tells each photo, a class of its own, from the others by the windows of
it that it was fitted on. Answers are compared on other windows. On a network whose answers are the same for all
pictures, or decided by hairs, agreement would tell nothing: so its accuracy is printed, and how many classes there are.

    python tests/benchmarks/export.py [--models mobilenetv2 resnet50] [--batches 1 16] [--photos FOLDER] [--rounds 15]

Prints, for each: milliseconds a request (fastest, median), times as fast as the stock export by either, size on disk,
and for how many of the windows the top class is the stock export's. Without `--photos`, random patterns are the photos.
"""

import argparse
import os
import statistics
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
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess_batch
from kcnn.models.spec import MODELS
from kcnn.serving.formats import FORMATS
from kcnn.weights import find_starter, load_weights
from kcnn.weights.copy import copy_weights

CLASSES = 1000
PURPOSES = {1: "latency", 16: "throughput"}
BRANCH = 0.2  # of the scales at the end of a random network's residual branches
RIDGE = 0.01  # of the mean of the features' variances
SHARPNESS = 20.0  # of the logits, whose probabilities are then as sure as a trained network's
FITTED, ASKED, MOST = 4, 2, 250  # windows of each photo; photos


def pictures(folder: str | None, side: int) -> tf.Tensor:
    """Return float32 [N, side, side, 3]: the photos in a folder, or patterns: noise, coarse and fine."""
    files = sorted(Path(folder).glob("*"))[:MOST] if folder else []
    if files:
        encoded = [file.read_bytes() for file in files]
        return preprocess_batch(tf.constant(encoded), Preprocessing((side, side), crop_fraction=1.0))
    random = np.random.default_rng(0)
    layers = [
        tf.image.resize(random.normal(0, weight, (MOST, cells, cells, 3)).astype("f"), (side, side), "bicubic")
        for cells, weight in ((2, 60), (5, 50), (16, 30), (64, 15))
    ]
    return tf.clip_by_value(127.5 + tf.add_n(layers), 0.0, 255.0)


def windows(images: tf.Tensor, size: int, count: int, seed: int) -> tf.Tensor:
    """Cut float32 [count * N, size, size, 3] from N images: one window of each in turn, half of them mirrored."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        top, left = random.integers(0, images.shape[1] - size + 1, 2)
        window = images[:, top : top + size, left : left + size]
        found.append(window[:, :, ::-1] if random.random() < 0.5 else window)
    return tf.round(tf.concat(found, axis=0))


class Application:
    """keras.applications' network, which knows the images.

    Attributes:
        model: with the pixels prepared, → probabilities.
        prepare: float32 [N, size, size, 3], RGB in 0-255 → what `model` takes.
    """

    def __init__(self, name: str, images: tf.Tensor):
        spec = MODELS.get(name)
        function = getattr(keras.applications, spec.application.function)
        preprocess_input = sys.modules[function.__module__].preprocess_input
        self.prepare = lambda pixels: tf.constant(preprocess_input(pixels.numpy()))
        keras.utils.set_random_seed(0)
        self.model = function(weights=None, classes=CLASSES, **spec.application.arguments)
        self._set_weights(name, spec.input_size)
        seen = windows(images, spec.input_size, FITTED, seed=0)
        self._measure_statistics(seen[:64])
        self._fit_head(seen, np.tile(np.arange(len(images)), FITTED))

    def _set_weights(self, name: str, size: int) -> None:
        if find_starter(name) is not None:
            ours = kcnn.create_model(name, CLASSES, size)
            load_weights(ours, "starter")
            copy_weights(ours, self.model)
            return
        random = np.random.default_rng(0)
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                scale = BRANCH if layer.name.endswith(("_3_bn", "project_BN", "project_bn")) else 1.0
                layer.gamma.assign(scale * random.uniform(0.5, 1.5, layer.gamma.shape))
                layer.beta.assign(random.normal(0, 0.1, layer.beta.shape))

    def _measure_statistics(self, seen: tf.Tensor) -> None:
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        self.model(self.prepare(seen), training=True)

    def _fit_head(self, seen: tf.Tensor, classes: np.ndarray) -> None:
        """Fit the head by ridge regression, in closed form."""
        body = keras.Model(self.model.input, self.model.layers[-2].output)
        features = body.predict(self.prepare(seen), batch_size=32, verbose=0).astype(np.float64)
        mean = features.mean(axis=0)
        features -= mean
        gram = features @ features.T
        gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
        kernel = SHARPNESS * features.T @ np.linalg.solve(gram, np.eye(CLASSES)[classes])
        self.model.layers[-1].set_weights([kernel, -mean @ kernel])


def loaded(path: str, signature: str) -> Callable[[tf.Tensor], np.ndarray]:
    """Return a function from the one float input of a signature to its probabilities."""
    module = tf.saved_model.load(path)
    function = module.signatures[signature]
    (key,) = function.structured_input_signature[1]

    def answer(images: tf.Tensor) -> np.ndarray:
        outputs = function(**{key: images})
        return outputs.get("probabilities", next(iter(outputs.values()))).numpy()

    answer.module = module  # keeps alive what the function needs
    return answer


def other_runtimes(version: str) -> dict[str, Callable[[tf.Tensor], np.ndarray]]:
    """Return the other runtimes, loaded with the formats that the export wrote."""
    import onnxruntime
    import openvino

    found = {}
    for precision in ("f32", "bf16"):
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        compiled = openvino.Core().compile_model(FORMATS["openvino"].file(Path(version)), "CPU", hints)
        found[f"OpenVINO {precision}"] = lambda images, network=compiled: network(images.numpy())["probabilities"]
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # into the turn of the next
    session = onnxruntime.InferenceSession(FORMATS["onnx"].file(Path(version)), options)
    found["ONNX Runtime"] = lambda images: session.run(["probabilities"], {"images": images.numpy()})[0]
    return found


def disk(path: str) -> int:
    """Return the bytes of the files in a folder, without those of other formats."""
    files = [file for file in Path(path).rglob("*") if file.is_file() and "assets.extra" not in file.parts]
    return sum(file.stat().st_size for file in files)


def compare(name: str, batch: int, theirs: Application, images: tf.Tensor, rounds: int) -> None:
    """Print the table of one network and batch."""
    size = MODELS.get(name).input_size
    asked, truth = windows(images, size, ASKED, seed=1), np.tile(np.arange(len(images)), ASKED)
    samples = [tf.io.encode_png(tf.cast(image, tf.uint8)).numpy() for image in windows(images, size, 1, seed=2)]
    with tempfile.TemporaryDirectory() as folder:
        theirs.model.export(f"{folder}/stock", verbose=False)
        ours = kcnn.create_model(name, CLASSES, size)
        copy_weights(theirs.model, ours)
        labels = [str(index) for index in range(CLASSES)]
        spec = Preprocessing((size, size), crop_fraction=1.0)
        started = time.perf_counter()
        facts = kcnn.export_classifier(
            ours, f"{folder}/ours", labels, spec, optimize_for=PURPOSES.get(batch, "throughput"), samples=samples
        )
        seconds = time.perf_counter() - started
        formats = ("savedmodel", "openvino", "onnx")
        kcnn.export_classifier(ours, f"{folder}/size", labels, spec, optimize_for="size", formats=formats)
        prepared = theirs.prepare(asked)  # which is not counted against it
        mine = f"kcnn, {facts['export']['precision']}"
        contestants = {
            "stock": (loaded(f"{folder}/stock", "serving_default"), prepared),
            mine: (loaded(f"{folder}/ours", "images_float"), asked),
            "kcnn, size": (loaded(f"{folder}/size", "images_float"), asked),
            **{runtime: (answer, asked) for runtime, answer in other_runtimes(f"{folder}/size").items()},
        }
        space = {"stock": f"{folder}/stock", mine: f"{folder}/ours", "kcnn, size": f"{folder}/size"}
        space = {who: f"{disk(path) / 2**20:.1f} MiB" for who, path in space.items()}
        top = {}
        for who, (answer, given) in contestants.items():
            parts = [given[start : start + batch] for start in range(0, len(given), batch)]
            top[who] = np.concatenate([answer(part).argmax(1) for part in parts])
        times: dict[str, list[float]] = {who: [] for who in contestants}
        for _ in range(rounds):
            for who, (answer, given) in contestants.items():
                part = given[:batch]
                for _ in range(max(1, 8 // batch)):
                    started = time.perf_counter()
                    answer(part)
                    times[who].append(time.perf_counter() - started)
        print(f"{name}, batch {batch}: exported in {seconds:.1f} s, {facts['export']}")
        for who, taken in times.items():
            fastest, median = min(taken), statistics.median(taken)
            ratios = min(times["stock"]) / fastest, statistics.median(times["stock"]) / median
            same, right, classes = np.mean(top[who] == top["stock"]), np.mean(top[who] == truth), len(set(top[who]))
            print(
                f"  {who:16} {1000 * fastest:7.1f} {1000 * median:7.1f} ms, {ratios[0]:.2f} {ratios[1]:.2f} times, "
                f"{space.get(who, ''):>9}, agrees {same:.1%} of {len(asked)} in {classes} classes, {right:.1%} right",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mobilenetv2", "resnet50"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--photos")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    for name in arguments.models:
        images = pictures(arguments.photos, MODELS.get(name).input_size * 9 // 7)
        theirs = Application(name, images)
        for batch in arguments.batches:
            compare(name, batch, theirs, images, arguments.rounds)


if __name__ == "__main__":
    main()
