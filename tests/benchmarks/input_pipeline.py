"""Images per second of the input pipeline at 224x224, from photo-like JPEGs of 500x375 that it makes itself.

    python tests/benchmarks/input_pipeline.py [--images 256] [--seconds 8]

Each line is one configuration, measured in the same run and compared with the first, which decodes and resizes as
plainly as TensorFlow can. The processor time per image is the steadier figure when other programs are running.
"""

import argparse
import io
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from PIL import Image

from kcnn.data import examples
from kcnn.data.input_pipeline.batches import TrainingShards, evaluation_batches, training_batches
from kcnn.data.input_pipeline.transform import Preprocessing

SIZE, CLASSES, BATCH = (224, 224), 10, 64


def photo(seed: int) -> bytes:
    """Draw noise with the spectrum of photos: amplitude ~ 1 / frequency. About 120 kB, as in ImageNet."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(375)[:, None], np.fft.rfftfreq(500)[None])
    spectrum = np.fft.rfft2(rng.normal(size=(3, 375, 500))) / np.maximum(frequency, 1 / 500)
    noise = np.fft.irfft2(spectrum, s=(375, 500))
    grey, colour = noise[:1], noise[1:].mean(axis=0)
    mixed = np.concatenate([grey, grey + 0.3 * colour, grey - 0.3 * colour]) / noise.std()
    file = io.BytesIO()
    Image.fromarray(np.clip(128 + 60 * mixed, 0, 255).astype(np.uint8).transpose(1, 2, 0)).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


def plain(paths: list[str]) -> tf.data.Dataset:
    """Decode and resize only, bilinear: the base of comparison."""

    def image(serialized):
        decoded = tf.io.decode_jpeg(examples.parse_example(serialized)["encoded"], channels=3)
        return tf.image.resize(decoded, SIZE)

    return (
        examples.read_examples(paths).repeat().map(image, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)
    )


def measure(dataset: tf.data.Dataset, seconds: float) -> tuple[float, float]:
    """Return images per second, and processor seconds per image."""
    iterator = iter(dataset)
    for _ in range(4):
        next(iterator)
    count, start, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        next(iterator)
        count += BATCH
    return count / (time.perf_counter() - start), (time.process_time() - busy) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=8.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        encoded = [photo(seed) for seed in range(arguments.images)]
        mean_bytes = sum(map(len, encoded)) // len(encoded)
        rows = [examples.Example(data, "", i % CLASSES, "", "", 0, 0, "") for i, data in enumerate(encoded)]
        shard = examples.shard_path(directory, "train", 0, 1)
        shard.parent.mkdir()
        examples.write_shard(shard, rows, shard.parent)
        paths = [str(shard)]
        bare, smooth = Preprocessing(SIZE, antialias=False), Preprocessing(SIZE)

        def training(spec: Preprocessing, *augmentations: str) -> tf.data.Dataset:
            return training_batches(
                TrainingShards(paths, len(encoded), mean_bytes),
                num_classes=CLASSES,
                batch_size=BATCH,
                preprocessing=spec,
                augmentations=augmentations,
                seed=0,
                epochs=range(10**6),
            )

        def evaluation(spec: Preprocessing) -> tf.data.Dataset:
            return evaluation_batches(paths * 1000, num_classes=CLASSES, batch_size=BATCH, preprocessing=spec)

        configurations = {
            "decode_jpeg + resize, plain TensorFlow": plain(paths),
            "random-resized crop": training(bare),
            "random-resized crop + RandAugment": training(bare, "flip", "randaugment"),
            "random-resized crop + RandAugment + CutMix": training(bare, "flip", "randaugment", "cutmix"),
            "random-resized crop, antialiased": training(smooth),
            "the same + RandAugment + CutMix": training(smooth, "flip", "randaugment", "cutmix"),
            "evaluation": evaluation(bare),
            "evaluation, antialiased": evaluation(smooth),
        }
        print(f"{len(encoded)} JPEGs of 500x375, {mean_bytes / 1000:.0f} kB each, to 224x224 on {os.cpu_count()} cores")
        first = None
        for name, dataset in configurations.items():
            rate, cost = measure(dataset, arguments.seconds)
            first = first or rate
            print(f"{rate:6.0f} img/s {rate / first:5.2f} x {1000 * cost:6.2f} core-ms/img  {name}", flush=True)


if __name__ == "__main__":
    main()
