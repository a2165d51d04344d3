"""The last check before publishing: an export, loaded with TensorFlow alone, answers as in the evaluation."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kcnn.serving import standalone


class DisagreementError(ValueError):
    """The export does not load with TensorFlow alone, or answers otherwise than expected: not to be published."""


def check_in_fresh_process(
    export_dir: str | os.PathLike,
    encoded: Sequence[bytes],
    expected_probabilities: np.ndarray,
    tolerance: float = 1e-3,
) -> float:
    """Serves held-out images from the export in a new process, on the CPU: in batches, one by one, and as pixels.

    Args:
        export_dir: a SavedModel written by `export_classifier`.
        encoded: N ≥ 1 image files, as bytes.
        expected_probabilities: float [N, C], the evaluation's.
        tolerance: the largest difference of a probability that passes. CPUs agree to about 1e-6; a GPU that multiplies
            in TF32 differs from a CPU by up to about 1e-2.

    Returns:
        The largest difference found.

    Raises:
        DisagreementError: the process failed, or a probability differs by more than `tolerance` or is not a number. The
            message gives the largest difference and how often the top class is the same.
    """
    with tempfile.TemporaryDirectory() as folder:
        requests, answers = Path(folder, "requests.npz"), Path(folder, "answers.npz")
        lengths = np.array([len(image) for image in encoded], np.int64)
        np.savez(requests, encoded=np.frombuffer(b"".join(encoded), np.uint8), lengths=lengths)
        # -I hides the working directory and PYTHONPATH. The GPU's memory is this process's: the other one does without.
        command = [sys.executable, "-I", standalone.__file__, os.fspath(export_dir), str(requests), str(answers)]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        process = subprocess.run(
            command, env=environment, capture_output=True, check=False, text=True, errors="replace"
        )
        if process.returncode:
            # TensorFlow's messages end in indented lines about nodes; the line before them says what happened.
            said = [line for line in process.stderr.splitlines() if line and not line[0].isspace()] or ["no message"]
            raise DisagreementError(
                f"{export_dir} cannot be served by TensorFlow alone (exit {process.returncode}): {said[-1]}"
            )
        with np.load(answers, allow_pickle=False) as served:
            got = np.concatenate([served["batched"], served["single"], served["pixels"]])
            expected = np.concatenate([expected_probabilities, expected_probabilities, served["pixels_as_png"]])
    if got.shape != expected.shape:
        raise DisagreementError(f"{export_dir} answers {got.shape}, where {expected.shape} probabilities were expected")
    difference = float(np.abs(got - expected).max())
    if not difference <= tolerance:
        agreement = np.mean(got.argmax(1) == expected.argmax(1))
        raise DisagreementError(
            f"{export_dir} in a fresh process differs from the evaluation: max |Δp| = {difference:.2g} (at most "
            f"{tolerance:g} passes), the same top class for {agreement:.1%} of {len(got)} answers"
        )
    return difference
