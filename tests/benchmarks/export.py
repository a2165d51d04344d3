"""How fast an export answers: this project's against keras.applications' own `export()` of the same architecture.

Both SavedModels are loaded by TensorFlow alone in this process and asked for the same pictures as float32 pixels of the
network's size, in turns. Their weights are the same random ones and their statistics random, so that one top class may
be that of all pictures. Where OpenVINO or ONNX Runtime (with tf2onnx) are installed, they run the stock export
as the mark to approach.

    python tests/benchmarks/export.py [--models mobilenetv2 resnet50] [--batches 1 16] [--photos FOLDER] [--rounds 15]

Prints, for each: milliseconds a request (fastest, median), times as fast as the stock export by either, size on disk,
and for how many of the photos (random patterns without `--photos`) the top class is the stock export's.
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import kcnn
from kcnn.data.transform import Preprocessing, preprocess_batch
from kcnn.models.spec import MODELS
from kcnn.serving.precision import patterns
from kcnn.weights.copy import copy_weights

CLASSES = 1000
PURPOSES = {1: "latency", 16: "throughput"}


def randomize(model: keras.Model) -> None:
    """Scales and statistics unlike those that every new network has."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name in ("moving_variance", "gamma"):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
        if variable.name in ("moving_mean", "beta"):
            variable.assign(random.normal(0, 0.1, variable.shape))


def stock_export(name: str, folder: str, images: tf.Tensor) -> tuple[keras.Model, tf.Tensor]:
    """keras.applications' network, exported as Keras does it to `folder`/stock; and `images` prepared for it."""
    spec = MODELS.get(name)
    function = getattr(keras.applications, spec.application.function)
    model = function(weights=None, classes=CLASSES, **spec.application.arguments)
    prepared = tf.constant(sys.modules[function.__module__].preprocess_input(images.numpy()))
    randomize(model)
    model.export(f"{folder}/stock", verbose=False)
    return model, prepared


def loaded(path: str, signature: str) -> Callable[[tf.Tensor], np.ndarray]:
    """A signature of one float input → its probabilities."""
    module = tf.saved_model.load(path)
    function = module.signatures[signature]
    (key,) = function.structured_input_signature[1]

    def answer(images: tf.Tensor) -> np.ndarray:
        outputs = function(**{key: images})
        return outputs.get("probabilities", next(iter(outputs.values()))).numpy()

    answer.module = module  # keeps alive what the function needs
    return answer


def other_runtimes(folder: str, size: int) -> Iterator[tuple[str, Callable[[tf.Tensor], np.ndarray]]]:
    """Those that are installed, on the stock export."""
    if importlib.util.find_spec("openvino"):
        import openvino

        network = openvino.convert_model(f"{folder}/stock", input=[-1, size, size, 3])
        for precision in ("f32", "bf16"):
            hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
            compiled = openvino.compile_model(network, "CPU", hints)
            yield f"OpenVINO {precision}", lambda images, compiled=compiled: compiled(images.numpy())[0]
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tf2onnx"):
        import onnxruntime
        import tf2onnx

        module = tf.saved_model.load(f"{folder}/stock")
        spec = [tf.TensorSpec([None, size, size, 3], tf.float32, name="images")]
        converted, _ = tf2onnx.convert.from_function(
            tf.function(module.signatures["serving_default"]), spec, output_path=f"{folder}/stock.onnx"
        )
        session = onnxruntime.InferenceSession(converted.SerializeToString(), providers=["CPUExecutionProvider"])
        yield "ONNX Runtime", lambda images: session.run(None, {"images": images.numpy()})[0]


def disk(path: str) -> int:
    """Bytes of the files below."""
    return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())


def pictures(folder: str | None, size: int) -> tf.Tensor:
    """float32 [N, size, size, 3]: the photos in a folder, or patterns."""
    files = sorted(Path(folder).glob("*")) if folder else []
    if not files:
        return patterns(200, (size, size))
    encoded = [file.read_bytes() for file in files]
    return preprocess_batch(tf.constant(encoded), Preprocessing((size, size)))


def compare(name: str, batch: int, photos: str | None, rounds: int) -> None:
    """Prints the table of one network and batch."""
    with tempfile.TemporaryDirectory() as folder:
        size = MODELS.get(name).input_size
        images = pictures(photos, size)
        # keras.applications wants its pixels prepared; that is not counted against it.
        theirs, prepared = stock_export(name, folder, images)
        ours = kcnn.create_model(name, CLASSES, size)
        copy_weights(theirs, ours)
        labels = [str(index) for index in range(CLASSES)]
        spec = Preprocessing((size, size), crop_fraction=1.0)
        started = time.perf_counter()
        facts = kcnn.export_classifier(
            ours, f"{folder}/ours", labels, spec, optimize_for=PURPOSES.get(batch, "throughput")
        )
        seconds = time.perf_counter() - started
        kcnn.export_classifier(ours, f"{folder}/size", labels, spec, optimize_for="size")
        contestants = {
            "stock": (loaded(f"{folder}/stock", "serving_default"), prepared),
            f"kcnn, {facts['export']['precision']}": (loaded(f"{folder}/ours", "images_float"), images),
            "kcnn, size": (loaded(f"{folder}/size", "images_float"), images),
            **{runtime: (answer, prepared) for runtime, answer in other_runtimes(folder, size)},
        }
        sizes = {"stock": "stock", list(contestants)[1]: "ours", "kcnn, size": "size"}
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
            space = f"{disk(f'{folder}/{sizes[who]}') / 2**20:6.1f} MiB" if who in sizes else " " * 10
            same, classes = np.mean(top[who] == top["stock"]), len(set(top[who].tolist()))
            print(
                f"  {who:16} {1000 * fastest:7.1f} {1000 * median:7.1f} ms, {ratios[0]:.2f} {ratios[1]:.2f} times, "
                f"{space}, agrees {same:.1%} of {len(images)} in {classes} classes",
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
        for batch in arguments.batches:
            compare(name, batch, arguments.photos, arguments.rounds)


if __name__ == "__main__":
    main()
