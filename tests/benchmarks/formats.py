"""Size of an export in each format, and latency of its runtime on this machine's processor.

    python tests/benchmarks/formats.py [--model mobilenetv2] [--classes 1000] [--rounds 15]

Random weights; requests of one image, the formats in turns. TF.js is left out of the times: its runtime is a browser's.
"""

import argparse
import functools
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import kcnn
from kcnn import content
from kcnn.models.spec import MODELS
from kcnn.serving.formats.catalogue import FORMATS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    side = MODELS.get(args.model).input_size
    coarse = np.random.default_rng(0).integers(0, 256, (8, 7, 7, 3)).astype(np.float32)
    images = tf.image.resize(coarse, (side, side), "bilinear").numpy()
    files = [tf.io.encode_png(tf.cast(image, tf.uint8)).numpy() for image in images]
    with tempfile.TemporaryDirectory() as folder:
        version = Path(folder, "1")
        started = time.perf_counter()
        kcnn.export_classifier(
            kcnn.create_model(args.model, args.classes, side),
            version,
            [str(index) for index in range(args.classes)],
            formats=list(FORMATS),
            calibration=files,
        )
        print(
            f"{args.model} at {side}x{side}, {args.classes} classes: written in {time.perf_counter() - started:.0f} s"
        )
        saved = tf.saved_model.load(str(version))
        ask = {"savedmodel": functools.partial(_by_tensorflow, saved.signatures["images_float"])}
        for name, row in FORMATS.items():
            if row.family is not None and name != "tfjs":
                ask[name] = row.family().load(row.file(version))
        times: dict[str, list[float]] = {name: [] for name in ask}
        for turn in range(args.rounds + 1):
            for name, answer in ask.items():
                for image in images:
                    started = time.perf_counter()
                    answer(image[None])
                    if turn:
                        times[name].append(time.perf_counter() - started)
        beside = content.size(version / "assets.extra")[1]
        for name, row in FORMATS.items():
            size = content.size(row.file(version).parent)[1] - (0 if row.family is not None else beside)
            taken = f"{1000 * statistics.median(times[name]):5.1f} ms" if name in times else ""
            print(f"  {name:16} {size / 2**20:6.1f} MiB {taken}")


def _by_tensorflow(signature: tf.types.experimental.ConcreteFunction, images: np.ndarray) -> np.ndarray:
    return signature(images=tf.constant(images))["probabilities"].numpy()


if __name__ == "__main__":
    main()
