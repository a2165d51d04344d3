"""The last check before publishing: an export answers every signature as in the evaluation.

It is loaded with TensorFlow alone, and by TensorFlow Serving. Latency and memory are measured too.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kcnn.checks import Check
from kcnn.plain_paths import plain_path
from kcnn.serving.validation import standalone, tensorflow_serving

# The difference of a probability that passes, by the export's precision. Machines that multiply in float32 agree to
# 1e-6; in bfloat16 sums in another order, as of another batch, round elsewhere, by a part in 256 each.
PRECISION_TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
SERVED = 8  # images that TensorFlow Serving is asked
_MIB = 2**20


@dataclasses.dataclass(frozen=True)
class Expectation:
    """The answers that pass.

    Attributes:
        probabilities: float [N, C], the evaluation's, of the N images.
        labels: bytes [C], the class names.
        tolerance: the largest difference of a probability.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    tolerance: float


Answers = Mapping[tuple[str, str, str], np.ndarray]  # (signature, request, output) → the answer


def validate_export(
    export_dir: str | os.PathLike,
    encoded: Sequence[bytes],
    expected: np.ndarray,
    labels: Sequence[str],
    *,
    max_latency_ms: float | None = None,
    max_memory_mb: float | None = None,
    serving_image: str | None = None,
) -> tuple[dict[str, Any], list[Check]]:
    """Send held-out images to every signature of the export, in a new process on the CPU.

    Args:
        export_dir: a SavedModel written by `export_classifier`.
        encoded: N ≥ 1 image files, as bytes.
        expected: float [N, C], the evaluation's probabilities.
        labels: the C class names.
        max_latency_ms: what 95 of 100 requests of one image must not exceed, in milliseconds; None for no limit.
        max_memory_mb: what the process must not exceed, in MiB; None for no limit.
        serving_image: Docker's image of TensorFlow Serving, to ask that too; None to leave it.

    Returns:
        facts, JSON-able: files, signatures, largest_probability_difference, latency_ms, memory_mb; those alone that
        could be had. And the checks: "loads", "answers" of each signature, "latency", "memory", "tensorflow_serving".
    """
    facts: dict[str, Any] = {"files": len(encoded)}
    with tempfile.TemporaryDirectory() as folder:
        requests, answers = Path(folder, "requests.npz"), Path(folder, "answers.npz")
        lengths = np.array([len(image) for image in encoded], np.int64)
        np.savez(requests, encoded=np.frombuffer(b"".join(encoded), np.uint8), lengths=lengths)
        # -I hides the working directory and PYTHONPATH. The GPU's memory is this process's: the other one does without.
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with plain_path(export_dir) as path:
            command = [sys.executable, "-I", "-X", "utf8", standalone.__file__, path, str(requests), str(answers)]
            process = subprocess.run(
                command, env=environment, capture_output=True, check=False, text=True, errors="replace"
            )
        if process.returncode:
            # TensorFlow's messages end in indented lines about nodes; the line before them says what happened.
            lines = [line for line in process.stderr.splitlines() if line and not line[0].isspace()] or ["no message"]
            reason = f"cannot be served by TensorFlow alone (exit {process.returncode}): {lines[-1]}"
            return facts, [Check("loads", False, f"the export {reason}")]
        with np.load(answers, allow_pickle=False) as file:
            found = json.loads(str(file["facts"]))
            got = {tuple(key): file[f"answer_{index}"] for index, key in enumerate(found["answers"])}
            pixels = [file[name] for name in sorted(file) if name.startswith("pixels_")]
    checks = [Check("loads", True, "the export loads in a process that has only TensorFlow")]
    kinds = {name: signature["kind"] for name, signature in found["signatures"].items()}
    names = np.array([label.encode() for label in labels])
    expectation = Expectation(expected, names, PRECISION_TOLERANCES[_precision(got)])
    checks += [_answers(name, kind, got, expectation) for name, kind in kinds.items()]
    facts["signatures"] = kinds
    differences = [check.figure for check in checks if check.figure is not None]
    if differences:
        facts["largest_probability_difference"] = max(differences)
    latency, memory = [1000 * seconds for seconds in found["latency_seconds"]], found["memory_bytes"]
    if latency:
        median, p95 = (float(np.quantile(latency, part)) for part in (0.5, 0.95))
        facts["latency_ms"] = {"median": round(median, 3), "p95": round(p95, 3), "requests": len(latency)}
        message = f"median {median:.3g} ms, 95% of {len(latency)} requests of one image within {p95:.3g} ms, on the CPU"
        checks.append(_limit("latency", p95, max_latency_ms, message, "--max_latency_ms"))
    facts["memory_mb"] = {name: round(size / _MIB) for name, size in memory.items()}
    message = f"the serving process had up to {memory['peak'] / _MIB:.0f} MiB in memory"
    checks.append(_limit("memory", memory["peak"] / _MIB, max_memory_mb, message, "--max_memory_mb"))
    if serving_image is None:
        message = "TensorFlow Serving was not asked: there is no Docker with tensorflow/serving here"
        checks.append(Check("tensorflow_serving", None, message))
    else:
        asked = {name: signature for name, signature in found["signatures"].items() if _comparable(name, got)}
        others = found["signatures"].keys() - asked.keys()
        checks.append(_served(export_dir, serving_image, asked, others, encoded, pixels, got, expectation))
    return facts, checks


def _precision(got: Answers) -> str:
    """Return the precision that the signature `metadata` states; float32 where there is no such signature."""
    found = [array for (_, _, output), array in got.items() if output == "metadata"]
    return json.loads(found[0][0])["export"]["precision"] if found else "float32"


def _comparable(name: str, got: Answers) -> bool:
    return any(signature == name and output == "probabilities" for signature, _, output in got)


def _limit(name: str, figure: float, bound: float | None, message: str, flag: str) -> Check:
    if bound is None:
        return Check(name, None, message, figure=figure)
    passed = figure <= bound
    return Check(
        name, passed, f"{message}, {'within' if passed else 'above'} {flag} {bound:g}", figure=figure, bound=bound
    )


def _answers(name: str, kind: str, got: Answers, expectation: Expectation) -> Check:
    """Check that a signature answered as expected, in each way it was asked."""
    check = f"answers, {name}"
    outputs = {key[2] for key in got if key[0] == name}
    silent = outputs and not outputs & {"probabilities", "scores"} and name != "serving_default"
    if kind == "other" or silent:
        numbers = [array for key, array in got.items() if key[0] == name and array.dtype.kind == "f"]
        finite = all(bool(np.isfinite(array).all()) for array in numbers)
        message = "finite numbers, as far as they are numbers" if finite else "what is not a finite number"
        return Check(check, finite, f"signature {name} answers {message}; there is nothing to compare it with")
    if kind == "pixels":
        reference = next((array for key, array in got.items() if key[1:] == ("pixels_as_png", "probabilities")), None)
        if reference is None or (name, "pixels", "probabilities") not in got:
            message = (
                f"signature {name} was not asked: no JPEG or PNG among the files, or no signature to compare it with"
            )
            return Check(check, None, message)
        return _agreement(check, f"signature {name}", [_parts(got, name, "pixels")], [reference], expectation)
    ways = [_parts(got, name, request) for request in ("batched", "single")]
    return _agreement(check, f"signature {name}", ways, [expectation.probabilities] * 2, expectation)


def _parts(got: Answers, name: str, request: str) -> dict[str, np.ndarray]:
    """Return the answers of a signature; the scores of a classification also as `probabilities`."""
    parts = {output: array for (signature, way, output), array in got.items() if (signature, way) == (name, request)}
    return {"probabilities": parts["scores"], **parts} if "scores" in parts else parts


def _agreement(
    check: str,
    who: str,
    answers: Sequence[Mapping[str, np.ndarray]],
    expected: Sequence[np.ndarray],
    expectation: Expectation,
) -> Check:
    """Compare answers (output → array) with expected probabilities, and their top classes with their probabilities."""
    lacking = [answer for answer in answers if "probabilities" not in answer]
    if lacking:
        return Check(check, False, f"{who} answers {', '.join(lacking[0]) or 'nothing'}, and no probabilities")
    refused = sorted({status.decode() for answer in answers for status in answer.get("status", ()) if status})
    if refused:
        return Check(check, False, f"{who} refuses images of the evaluation: {'; '.join(refused)}")
    for answer, wanted in zip(answers, expected, strict=True):
        shape = answer["probabilities"].shape
        if shape != wanted.shape:
            return Check(check, False, f"{who} answers {shape}, where {wanted.shape} probabilities were expected")
    got = np.concatenate([answer["probabilities"] for answer in answers]).astype(np.float64)
    wanted = np.concatenate(list(expected))
    difference = float(np.abs(got - wanted).max())
    if not difference <= expectation.tolerance:
        agreement = np.mean(got.argmax(1) == wanted.argmax(1))
        message = (
            f"{who} differs from the evaluation: max |Δp| = {difference:.2g} "
            f"(at most {expectation.tolerance:g} passes), the same top class for {agreement:.1%} of {len(got)} answers"
        )
        figure = difference if np.isfinite(difference) else None  # JSON has no NaN
        return Check(check, False, message, figure=figure, bound=expectation.tolerance)
    for answer in answers:
        if {"top_classes", "top_probabilities"} <= answer.keys() and not _tops_fit(answer, expectation.labels):
            message = f"{who} answers top_classes and top_probabilities that are not those of its probabilities"
            return Check(check, False, message)
        if "classes" in answer and not (answer["classes"] == expectation.labels).all():
            return Check(check, False, f"{who} answers classes that are not the labels in their order")
    message = f"{who} answers as the evaluation, to {difference:.2g} of a probability, {len(got)} times"
    return Check(check, True, message, figure=difference, bound=expectation.tolerance)


def _tops_fit(answer: Mapping[str, np.ndarray], labels: np.ndarray) -> bool:
    """Return whether the top classes are the labels of the largest probabilities; equal ones may change places."""
    probabilities, classes = answer["probabilities"], answer["top_classes"]
    largest = -np.sort(-probabilities, axis=1)[:, : classes.shape[1]]
    order = np.argsort(labels)
    index = order[np.searchsorted(labels, classes, sorter=order).clip(max=len(labels) - 1)]
    named = np.take_along_axis(probabilities, index, axis=1)
    return bool(
        (labels[index] == classes).all()
        and np.allclose(largest, answer["top_probabilities"], atol=1e-6)
        and np.allclose(named, answer["top_probabilities"], atol=1e-6)
    )


def _served(
    export_dir: str | os.PathLike,
    image: str,
    signatures: Mapping[str, Mapping[str, str]],
    others: Collection[str],
    encoded: Sequence[bytes],
    pixels: Sequence[np.ndarray],
    got: Answers,
    expectation: Expectation,
) -> Check:
    """Ask TensorFlow Serving's REST API the same questions, fewer of them."""
    check, expected = "tensorflow_serving", expectation.probabilities[:SERVED]

    def ask(url: str) -> Iterator[Check]:
        there = tensorflow_serving.served_signatures(url)
        if there != signatures.keys() | others:
            here = ", ".join(sorted(signatures.keys() | others))
            message = f"TensorFlow Serving has the signatures {', '.join(sorted(there))}, not {here}"
            yield Check(check, False, message)
        for name, signature in signatures.items():
            who = f"TensorFlow Serving's signature {name}"
            if signature["kind"] == "bytes":
                answer = tensorflow_serving.ask_predict(url, name, signature["input"], encoded[:SERVED])
                yield _agreement(check, who, [answer], [expected], expectation)
            elif signature["kind"] == "examples":
                rows = [standalone.example(image) for image in encoded[:SERVED]]
                answer = tensorflow_serving.ask_predict(url, name, signature["input"], rows)
                yield _agreement(check, who, [answer], [expected], expectation)
            elif signature["kind"] == "pixels" and pixels:
                answer = tensorflow_serving.ask_predict(url, name, signature["input"], pixels[0])
                wanted = got[name, "pixels", "probabilities"][: len(pixels[0])]
                yield _agreement(check, who, [answer], [wanted], expectation)

    try:
        with tensorflow_serving.serve_in_docker(export_dir, image) as url:
            checks = list(ask(url))
    except tensorflow_serving.UnreachableError as error:
        return Check(check, None, f"TensorFlow Serving was not asked: {error}")
    except tensorflow_serving.ServingError as error:
        return Check(check, False, f"TensorFlow Serving: {error}")
    failed = [one for one in checks if not one.passed]
    if failed:
        return failed[0]
    largest = max((one.figure for one in checks if one.figure is not None), default=0.0)
    message = f"TensorFlow Serving answers {', '.join(signatures)} as the evaluation, to {largest:.2g} of a probability"
    return Check(check, True, message, figure=largest, bound=expectation.tolerance)
