"""Serves an export as a stranger would: a program of its own, with TensorFlow and numpy and nothing of this project.

    python -I standalone.py EXPORT_DIR REQUESTS_FILE ANSWERS_FILE

REQUESTS_FILE is a .npz of `encoded` (uint8, the N image files one after the other) and `lengths` (int64 [N], the bytes
of each). ANSWERS_FILE is a .npz of probabilities, float32:
    batched [N, C]: by `serving_default`, images of all sizes in one request.
    single [N, C]: by `serving_default`, one image a request.
    pixels [P, C]: by `images`, the first few JPEG and PNG files decoded by TensorFlow.
    pixels_as_png [P, C]: by `serving_default`, the same pixels.
"""

import sys

import numpy as np
import tensorflow as tf

BATCH = 32
PIXELS = 4


def main(export_dir: str, requests_file: str, answers_file: str) -> None:
    """Answers every request in the file; raises whatever the model raises."""
    served = tf.saved_model.load(export_dir).signatures
    with np.load(requests_file, allow_pickle=False) as requests:
        ends = np.cumsum(requests["lengths"])
        encoded = [part.tobytes() for part in np.split(requests["encoded"], ends[:-1])]
    plain = [image for image in encoded if image.startswith((b"\xff\xd8\xff", b"\x89PNG"))][:PIXELS]
    pixels = [tf.io.decode_image(image, channels=3, expand_animations=False) for image in plain]

    def by_bytes(images: list, size: int) -> np.ndarray:
        batches = [
            tf.constant(images[start : start + size], tf.string) for start in range(0, max(len(images), 1), size)
        ]
        return np.concatenate([served["serving_default"](image_bytes=batch)["probabilities"] for batch in batches])

    def by_pixels(images: list[tf.Tensor]) -> np.ndarray:
        requests = [image[None] for image in images] or [tf.zeros([0, 1, 1, 3], tf.uint8)]
        return np.concatenate([served["images"](images=request)["probabilities"] for request in requests])

    answers = {
        "batched": by_bytes(encoded, BATCH),
        "single": by_bytes(encoded, 1),
        "pixels": by_pixels(pixels),
        "pixels_as_png": by_bytes([tf.io.encode_png(image).numpy() for image in pixels], 1),
    }
    strangers = {"kcnn", "keras_cv"} & sys.modules.keys()
    if strangers:
        raise RuntimeError(f"TensorFlow alone must be enough to serve, but {', '.join(sorted(strangers))} was imported")
    np.savez(answers_file, allow_pickle=False, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
