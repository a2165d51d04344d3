"""Photos per second of `predict` on a folder, against the export's signature alone on bytes that lie in memory.

    python tests/benchmarks/predict.py [--model mobilenetv2] [--images 256] [--batch_size 32] [--rounds 5]

All sides run in one process, in turns; the ratio is that of the medians, and the processor time per image is the
steadier figure when other programs are running. What `predict` does more: it walks the
folder, reads the files, prints a JSON line for each. The other runtimes take their turns too.
"""

import argparse
import contextlib
import functools
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import input_pipeline
import tensorflow as tf

import kcnn
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.serving.prediction import printing
from kcnn.serving.prediction.classifier import Classifier
from kcnn.serving.prediction.runtimes import RUNTIMES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mobilenetv2")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    spec = kcnn.model_spec(arguments.model)
    labels = [f"class {index}" for index in range(1000)]
    with tempfile.TemporaryDirectory() as directory:
        model = kcnn.create_model(arguments.model, len(labels))
        kcnn.export_classifier(
            model,
            f"{directory}/export",
            labels,
            Preprocessing((spec.input_size,) * 2),
            formats=tuple(RUNTIMES.values()),
        )
        photos = [input_pipeline.photo(seed) for seed in range(arguments.images)]
        for index, photo in enumerate(photos):
            Path(directory, "photos", f"{index % 10}").mkdir(parents=True, exist_ok=True)
            Path(directory, "photos", f"{index % 10}", f"{index}.jpg").write_bytes(photo)
        signature = tf.saved_model.load(f"{directory}/export").signatures["serving_default"]

        def bare() -> None:
            for start in range(0, len(photos), arguments.batch_size):
                answer = signature(image_bytes=tf.constant(photos[start : start + arguments.batch_size]))
                answer["top_probabilities"].numpy()

        def predict(classifier: Classifier) -> None:
            with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
                printing.print_predictions(
                    classifier,
                    [f"{directory}/photos"],
                    files_from=None,
                    layout="json",
                    top=5,
                    batch_size=arguments.batch_size,
                    allow_urls=False,
                    private_redirects=False,
                )

        sides = {"the signature, bytes in memory": bare}
        for runtime in RUNTIMES:
            classifier = kcnn.load_classifier(f"{directory}/export", runtime)
            sides[f"predict, a folder, {runtime}"] = functools.partial(predict, classifier)
        for side in sides.values():
            side()
        rates: dict[str, list[float]] = {name: [] for name in sides}
        busy = dict.fromkeys(sides, 0.0)
        for _ in range(arguments.rounds):
            for name, side in sides.items():
                start, used = time.perf_counter(), time.process_time()
                side()
                rates[name].append(len(photos) / (time.perf_counter() - start))
                busy[name] += time.process_time() - used
        size = sum(map(len, photos)) / len(photos) / 1000
        print(f"{len(photos)} JPEGs of 500x375, {size:.0f} kB each; {spec.name}, batches of {arguments.batch_size}")
        medians = {name: statistics.median(found) for name, found in rates.items()}
        first = next(iter(medians.values()))
        for name, found in rates.items():
            spread = f"{min(found):.0f} to {max(found):.0f}"
            cost = 1000 * busy[name] / len(photos) / arguments.rounds
            ratio = medians[name] / first
            print(f"{medians[name]:6.0f} img/s ({spread}) {ratio:5.2f} x {cost:6.2f} core-ms/img  {name}")


if __name__ == "__main__":
    main()
