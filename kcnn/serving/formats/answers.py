"""A program that asks every format of a version about held-out files, each by its own runtime, on the CPU.

    python -m kcnn.serving.formats.answers VERSION REQUEST_FILE ANSWERS_FILE AT_FILE

REQUEST_FILE is JSON: `shards`, paths of TFRecords as `kcnn.data.examples` writes them; `limit`, how many images at
most. ANSWERS_FILE is a .npz of
    facts: JSON: "metadata", the export's; "errors", format → why it could not be asked; "milliseconds", format → of an
        image in batches of BATCH, the SavedModel's with decoding.
    labels: int64 [N]; and, by the name of each format, probabilities float32 [N, C].
AT_FILE holds the name of the format that is being asked, in case this program is killed.
"""

import functools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kcnn.data import examples
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess_batch
from kcnn.plain_paths import plain_path
from kcnn.serving.formats.catalogue import FORMATS, present_formats

BATCH = 16

Answers = dict[str, np.ndarray]  # output → array


def _of_pixels(answer: Callable[[np.ndarray], Answers], files: tf.Tensor, pixels: np.ndarray) -> Answers:
    return answer(pixels)


def main(version: Path, request_file: Path, answers_file: Path, at_file: Path) -> None:
    """Answer the request; errors of the SavedModel and of the shards are raised."""
    request = json.loads(request_file.read_text())
    at_file.write_text("savedmodel")
    with plain_path(version) as path:
        saved = tf.saved_model.load(path)
    served, describe = saved.signatures["serving_default"], saved.signatures["metadata"]
    metadata = json.loads(describe()["metadata"].numpy())
    preprocessing = Preprocessing(**metadata["preprocessing"])

    def of_files(files: tf.Tensor, pixels: np.ndarray) -> Answers:
        return {output: answered.numpy() for output, answered in served(image_bytes=files).items()}

    asked: dict[str, Callable[[tf.Tensor, np.ndarray], Answers]] = {"savedmodel": of_files}
    errors: dict[str, str] = {}
    seconds: dict[str, list[float]] = {}
    probabilities: dict[str, list[np.ndarray]] = {}
    labels: list[np.ndarray] = []

    def attempt(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        at_file.write_text(name)
        try:
            return work(*arguments)
        except Exception as error:  # each runtime raises its own kinds
            errors[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            asked.pop(name, None)
            return None

    for name in present_formats(version):
        row = FORMATS[name]
        if row.family is not None:
            answer = attempt(name, row.family().load, row.file(version))
            if answer is not None:
                asked[name] = functools.partial(_of_pixels, answer)
    parsed = examples.read_examples(request["shards"]).take(request["limit"]).map(examples.parse_example)
    for batch in parsed.batch(BATCH).prefetch(1):
        files = batch["encoded"]
        pixels = preprocess_batch(files, preprocessing).numpy()
        for name, ask in list(asked.items()):
            if not labels:
                attempt(name, ask, files, pixels)  # the first request takes longer
            start = time.perf_counter()
            answered = attempt(name, ask, files, pixels)
            if answered is not None:
                seconds.setdefault(name, []).append(time.perf_counter() - start)
                probabilities.setdefault(name, []).append(answered["probabilities"])
        labels.append(batch["label"].numpy())
    count = sum(map(len, labels))
    facts = {
        "metadata": metadata,
        "errors": errors,
        "milliseconds": {name: round(1000 * sum(seconds[name]) / count, 3) for name in asked},
    }
    arrays = {name: np.concatenate(probabilities[name]) for name in asked}
    arrays |= {"facts": np.array(json.dumps(facts)), "labels": np.concatenate(labels)}
    np.savez(answers_file, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
