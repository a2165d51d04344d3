"""Serves an export as a stranger would: a program of its own, with TensorFlow and numpy and nothing of this project.

    python -I standalone.py EXPORT_DIR REQUESTS_FILE ANSWERS_FILE

REQUESTS_FILE is a .npz of `encoded` (uint8, the encoded images one after the other), `lengths` (int64 [N], the bytes of
each) and any number of `pixels_<i>` (uint8 [H, W, 3], image i decoded). ANSWERS_FILE is a .npz of the probabilities,
float32: `batched` [N, C] (serving_default, images of all sizes in one request), `single` [N, C] (serving_default, one
image a request) and `pixels_<i>` [C] (images).
"""

import sys
from typing import Any

import numpy as np
import tensorflow as tf

BATCH = 32


def main(export_dir: str, requests_file: str, answers_file: str) -> None:
    """Answers every request in the file; raises whatever the model raises."""
    served = tf.saved_model.load(export_dir)
    with np.load(requests_file, allow_pickle=False) as requests:
        pixels = {name: requests[name] for name in requests if name.startswith("pixels_")}
        ends = np.cumsum(requests["lengths"])
        encoded = [part.tobytes() for part in np.split(requests["encoded"], ends[:-1])]

    def from_bytes(size: int) -> np.ndarray:
        batches = [encoded[start : start + size] for start in range(0, len(encoded), size)]
        ask = served.signatures["serving_default"]
        return np.concatenate([ask(image_bytes=tf.constant(batch))["probabilities"].numpy() for batch in batches])

    answers: dict[str, Any] = {"batched": from_bytes(BATCH), "single": from_bytes(1)}
    for name, image in pixels.items():
        answers[name] = served.signatures["images"](images=tf.constant(image[None]))["probabilities"].numpy()[0]
    strangers = {"kcnn", "keras_cv"} & sys.modules.keys()
    if strangers:
        raise RuntimeError(f"TensorFlow alone must be enough to serve, but {', '.join(sorted(strangers))} was imported")
    np.savez(answers_file, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
