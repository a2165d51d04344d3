"""Serves an export as a stranger would: a program of its own, with TensorFlow and numpy and nothing of this project.

    python -I standalone.py EXPORT_DIR REQUESTS_FILE ANSWERS_FILE

REQUESTS_FILE is a .npz of `encoded` (uint8, the N image files one after the other) and `lengths` (int64 [N], the bytes
of each). Every signature is asked. ANSWERS_FILE is a .npz of
    facts: JSON: "signatures", name → "kind" and "input" (its name); "answers", [signature, request, output] of each
        array below; "latency_seconds", of requests of one image; "memory_bytes", of the process: "before" the export
        was loaded, and the "peak".
    answer_<i>: the answers, in the order of "answers". The requests are
        of "bytes" signatures (one string tensor [N]) and "examples" signatures (one of tf.Examples), "batched": images
        of all sizes in one request; "single": one image a request.
        of "pixels" signatures (one uint8 or float32 tensor [N, H, W, 3]), "pixels": a few JPEG and PNG files decoded by
        TensorFlow, each with its mirror image.
        of "other" signatures, "zeros": a request of zeros, or of nothing where they take nothing.
        of "serving_default", or else the first "bytes" signature, "pixels_as_png": what "pixels" asks.
    pixels_<i>: uint8 [2, H, W, 3], what "pixels" asks, request by request.
"""

import json
import resource
import sys
import time

import numpy as np

if __name__ == "__main__":
    # Keras imports them where they are installed, for plots and wrappers: a third of TensorFlow's start.
    sys.modules |= dict.fromkeys(("matplotlib", "sklearn"))  # type: ignore[arg-type]
import tensorflow as tf

BATCH = 32
PIXELS = 4  # files that are asked as pixels
SIDE = 256  # pixels; larger images are cut
REQUESTS, SECONDS = 200, 10.0  # the latency is measured until either is used up
EXAMPLES = ("examples", "inputs")  # what inputs of tf.Examples are called


def kind(inputs: dict[str, tf.TensorSpec]) -> str:
    """Return the kind of a signature by its inputs."""
    if len(inputs) != 1:
        return "other"
    ((key, spec),) = inputs.items()
    if spec.dtype == tf.string and spec.shape.rank == 1:
        return "examples" if key in EXAMPLES else "bytes"
    if spec.dtype in (tf.uint8, tf.float32) and spec.shape.rank == 4 and spec.shape[3] == 3:
        return "pixels"
    return "other"


def peak_memory() -> int:
    """Return the most bytes that this process has had in memory."""
    try:
        # On Linux, getrusage's would count what the parent held when it forked.
        with open("/proc/self/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def zeros(spec: tf.TensorSpec) -> tf.Tensor:
    """Return a tensor of zeros that fits a spec, with 1 for each open size."""
    shape = [1 if size is None else size for size in (spec.shape.as_list() if spec.shape.rank is not None else [1])]
    return tf.fill(shape, "") if spec.dtype == tf.string else tf.zeros(shape, spec.dtype)


def example(encoded: bytes) -> bytes:
    """Return a serialized tf.Example with an image file in it."""
    feature = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def main(export_dir: str, requests_file: str, answers_file: str) -> None:
    """Answer every request in the file; errors of the model are raised."""
    with np.load(requests_file, allow_pickle=False) as requests:
        ends = np.cumsum(requests["lengths"])
        encoded = [part.tobytes() for part in np.split(requests["encoded"], ends[:-1])]
    before = peak_memory()
    model = tf.saved_model.load(export_dir)
    served = {name: model.signatures[name] for name in sorted(model.signatures)}
    inputs = {name: signature.structured_input_signature[1] for name, signature in served.items()}
    kinds = {name: kind(specs) for name, specs in inputs.items()}
    answers: list[tuple[str, str, str]] = []
    arrays: dict[str, np.ndarray] = {}

    def ask(name: str, request: str, batches: list[tf.Tensor]) -> None:
        (key,) = inputs[name]
        record(name, request, [served[name](**{key: batch}) for batch in batches])

    def record(name: str, request: str, got: list[dict[str, tf.Tensor]]) -> None:
        for output in got[0]:
            parts = [np.atleast_1d(part[output].numpy()) for part in got]
            joined = np.concatenate([part if part.dtype != object else part.astype("S") for part in parts])
            arrays[f"answer_{len(answers)}"] = joined
            answers.append((name, request, output))

    plain = [image for image in encoded if image.startswith((b"\xff\xd8\xff", b"\x89PNG"))][:PIXELS]
    decoded = [tf.io.decode_image(image, channels=3, expand_animations=False)[:SIDE, :SIDE] for image in plain]
    pixels = [tf.stack([image, image[:, ::-1]]) for image in decoded]
    starts = range(0, len(encoded), BATCH)
    rows = {"bytes": encoded, "examples": [example(image) for image in encoded]}
    singles = [tf.constant([image]) for image in encoded]
    pngs = [tf.constant([tf.io.encode_png(image).numpy() for image in pair]) for pair in pixels]
    by_bytes = sorted((name for name in kinds if kinds[name] == "bytes"), key=lambda name: name != "serving_default")
    for name in served:
        if kinds[name] in rows:
            ask(name, "batched", [tf.constant(rows[kinds[name]][start : start + BATCH]) for start in starts])
            ask(name, "single", [tf.constant([row]) for row in rows[kinds[name]]])
        elif kinds[name] == "pixels" and pixels:
            (spec,) = inputs[name].values()
            ask(name, "pixels", [tf.cast(pair, spec.dtype) for pair in pixels])
        elif kinds[name] == "other":
            record(name, "zeros", [served[name](**{key: zeros(spec) for key, spec in inputs[name].items()})])
    if by_bytes and pngs:
        ask(by_bytes[0], "pixels_as_png", pngs)

    latency: list[float] = []
    started = time.perf_counter()
    while by_bytes and len(latency) < REQUESTS and (not latency or time.perf_counter() - started < SECONDS):
        (key,) = inputs[by_bytes[0]]
        single = singles[len(latency) % len(singles)]
        start = time.perf_counter()
        next(iter(served[by_bytes[0]](**{key: single}).values())).numpy()
        latency.append(time.perf_counter() - start)

    strangers = {"kcnn", "keras_cv"} & sys.modules.keys()
    if strangers:
        raise RuntimeError(f"TensorFlow alone must be enough to serve, but {', '.join(sorted(strangers))} was imported")
    facts = {
        "signatures": {name: {"kind": kinds[name], "input": next(iter(inputs[name]), "")} for name in served},
        "answers": answers,
        "latency_seconds": latency,
        "memory_bytes": {"before": before, "peak": peak_memory()},
    }
    arrays |= {f"pixels_{index}": pair.numpy() for index, pair in enumerate(pixels)}
    np.savez(answers_file, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
