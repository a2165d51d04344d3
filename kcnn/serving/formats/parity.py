"""The comparison of an export's formats with the evaluation, on held-out files."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kcnn import content
from kcnn.checks import Check
from kcnn.errors import UserError
from kcnn.serving.formats.catalogue import FORMATS, check_format_runtimes, present_formats
from kcnn.serving.validation.saved_model import PRECISION_TOLERANCES

LIMIT = 1000


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """The largest deviation of a format from the evaluation that passes; None where it does not matter.

    Attributes:
        difference: the difference of a probability.
        loss: the loss of accuracy. Both accuracies are of the same images, so that there is no sampling error.
    """

    difference: float | None = None
    loss: float | None = None


_FLOAT16 = 5e-2  # the difference of a probability that weights of 11 bits make: less in a trained network
TOLERANCES = {
    "savedmodel": Tolerance(difference=1e-3),
    "onnx": Tolerance(difference=1e-3),
    "openvino": Tolerance(difference=1e-3),
    "tfjs": Tolerance(difference=1e-3),
    "tflite-float16": Tolerance(difference=_FLOAT16),
    "tflite-dynamic": Tolerance(loss=0.01),
    "tflite-int8": Tolerance(loss=0.01),
}


def measure_parity(
    version_dir: str | os.PathLike,
    shards: Sequence[str],
    expected: np.ndarray,
    *,
    limit: int = LIMIT,
) -> tuple[dict[str, Any], list[Check]]:
    """Send held-out images through every format of a version, each by its own runtime, in a new process on the CPU.

    The evaluation asked the SavedModel. Where the SavedModel computes in bfloat16, or has float16 weights, the other
    formats may differ by as much as that changes a probability.

    Args:
        version_dir: written by `export_classifier`.
        shards: paths of the TFRecords with the images that were evaluated.
        expected: float [≥ min(N, limit), C], the evaluation's probabilities of the N images, in the order in which
            `kcnn.data.examples.read_examples` reads the shards.
        limit: how many images to take at most.

    Returns:
        facts, JSON-able: `files`, how many; `accuracy`, the evaluation's of these; `formats`, for each that answered
        `largest_probability_difference`, `agreement` (of top classes), `accuracy`, `bytes`, `milliseconds` (of an image
        in batches of 16; the SavedModel's with decoding it). And a check "format, <name>" for each, "formats" where
        they cannot be asked.

    Raises:
        UserError: packages are missing that run one of the formats.
    """
    version, names = Path(version_dir), present_formats(Path(version_dir))
    if "savedmodel" not in names or not shards:
        raise UserError(f"{version}: expected an export, and images to compare it on")
    check_format_runtimes(names)
    with tempfile.TemporaryDirectory() as folder:
        request, answers, at = (Path(folder, name) for name in ("request.json", "answers.npz", "at"))
        request.write_text(json.dumps({"shards": [os.path.abspath(path) for path in shards], "limit": limit}))
        command = [sys.executable, "-m", "kcnn.serving.formats.answers", *map(str, (version, request, answers, at))]
        paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
        environment = {
            **os.environ,
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        process = subprocess.run(
            command, env=environment, capture_output=True, check=False, text=True, errors="replace"
        )
        if process.returncode:
            asked = at.read_text() if at.is_file() else "none"
            lines = [line for line in process.stderr.splitlines() if line and not line[0].isspace()] or ["no message"]
            message = (
                f"the formats cannot be asked: at {asked} the process ended (exit {process.returncode}): {lines[-1]}"
            )
            return {"files": 0}, [Check("formats", False, message)]
        with np.load(answers, allow_pickle=False) as file:
            found = json.loads(str(file["facts"]))
            labels = file["labels"]
            got = {name: file[name] for name in names if name in file}
    expected = np.asarray(expected, np.float64)[: len(labels)]
    accuracy = float(np.mean(expected.argmax(1) == labels))
    facts: dict[str, Any] = {"files": len(labels), "accuracy": accuracy, "formats": {}}
    checks = []
    for name in names:
        check = f"format, {name}"
        if name in found["errors"]:
            checks.append(Check(check, False, f"{name} cannot be asked: {found['errors'][name]}"))
        elif got[name].shape != expected.shape:
            message = f"{name} answers {got[name].shape}, where {expected.shape} probabilities were expected"
            checks.append(Check(check, False, message))
        else:
            measured = {
                **_compare(got[name], expected, labels),
                "bytes": _bytes(version, name),
                "milliseconds": found["milliseconds"][name],
            }
            facts["formats"][name] = measured
            checks.append(_judge(name, measured, accuracy, len(labels), found["metadata"]["export"]))
    return facts, checks


def _compare(got: np.ndarray, expected: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    top = got.argmax(1)
    return {
        "largest_probability_difference": float(np.abs(got - expected).max()),
        "agreement": float(np.mean(top == expected.argmax(1))),
        "accuracy": float(np.mean(top == labels)),
    }


def _bytes(version: Path, name: str) -> int:
    """Return the bytes of a format's files. Those of the SavedModel are all files outside assets.extra."""
    if FORMATS[name].family is not None:
        return content.size(FORMATS[name].file(version).parent)[1]
    return content.size(version)[1] - content.size(version / "assets.extra")[1]


def _judge(name: str, measured: dict[str, float], accuracy: float, count: int, export: dict[str, Any]) -> Check:
    """Return the check that compares what was measured with what the format may do."""
    tolerance = TOLERANCES[name]
    difference = measured["largest_probability_difference"]
    how = ", read back by TensorFlow," if name == "tfjs" else ""
    message = (
        f"{name}{how} gives {measured['agreement']:.1%} of {count} images the same top class, max |Δp| = "
        f"{difference:.2g}, and {measured['accuracy']:.1%} accuracy, where the evaluation had {accuracy:.1%}"
    )
    details = {key: measured[key] for key in ("agreement", "accuracy", "bytes", "milliseconds")}
    if tolerance.loss is not None:
        loss = accuracy - measured["accuracy"]
        passed = bool(np.isfinite(difference)) and loss <= tolerance.loss + 1e-9
        message += f"; a loss of at most {tolerance.loss:.1%} passes"
        return Check(f"format, {name}", passed, message, figure=loss, bound=tolerance.loss, details=details)
    assert tolerance.difference is not None
    bound = max(
        tolerance.difference,
        PRECISION_TOLERANCES[export["precision"]],
        _FLOAT16 if export["optimize_for"] == "size" and name != "savedmodel" else 0.0,
    )
    figure = difference if np.isfinite(difference) else None  # JSON has no NaN
    return Check(
        f"format, {name}",
        difference <= bound,
        f"{message}; at most {bound:g} of a probability passes",
        figure=figure,
        bound=bound,
        details=details,
    )
