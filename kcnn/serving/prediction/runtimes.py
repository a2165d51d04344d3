"""The runtimes of exported networks: TensorFlow runs the SavedModel, another runtime the file of its format.

Another runtime runs the network alone. The way to it, from files to pixels, and the way on, to labels and statuses,
are the SavedModel's own functions (`kcnn.serving.export.signatures`), traced around a call of the runtime.
"""

import dataclasses
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kcnn.documents import parse_json
from kcnn.errors import UserError, nearest
from kcnn.serving.formats.catalogue import FORMATS, check_format_runtimes

if TYPE_CHECKING:
    import tensorflow as tf

RUNTIMES = {"tensorflow": "savedmodel", "openvino": "openvino", "onnx": "onnx"}  # → the format that they load


def check_runtime(runtime: str) -> None:
    """Raise UserError where there is no such runtime, or its package is missing."""
    if runtime not in RUNTIMES:
        raise UserError(f"runtime {runtime!r}: {nearest(runtime, RUNTIMES)}")
    check_format_runtimes([RUNTIMES[runtime]])


def runtime_file(runtime: str, version: Path) -> Path:
    """Return the file of a version's folder that the runtime loads; it may not exist."""
    return FORMATS[RUNTIMES[runtime]].file(version)


def find_runtime_file(runtime: str, version: Path) -> Path:
    """Return the file of a version's folder that the runtime loads.

    Raises:
        UserError: it is not there; or as `check_runtime`.
    """
    check_runtime(runtime)
    found = runtime_file(runtime, version)
    if not found.is_file():
        makes = f"python main.py export {version} --formats {RUNTIMES[runtime]}"
        raise UserError(f"--runtime {runtime}: no {str(found)!r}; to make a version that has it: {makes}")
    return found


@dataclasses.dataclass(frozen=True)
class LoadedSignatures:
    """As `tf.saved_model.load` gives it.

    Attributes:
        signatures: the functions of a version, by name, as its SavedModel has them; threads may share them.
        network: what they call; it lasts as long as this does.
    """

    signatures: dict[str, "tf.types.experimental.ConcreteFunction"]
    network: Callable[[np.ndarray], dict[str, np.ndarray]]


def load_runtime(runtime: str, version: Path) -> LoadedSignatures:
    """Load a version with its network in a runtime other than TensorFlow.

    Raises:
        UserError: the version has no network for the runtime, or one that it cannot read; the package is missing.
    """
    import tensorflow as tf

    from kcnn.data.input_pipeline.transform import Preprocessing
    from kcnn.serving.export.signatures import signatures_of

    path, row = find_runtime_file(runtime, version), FORMATS[RUNTIMES[runtime]]
    if row.family is None:
        raise ValueError(f"runtime {runtime!r}: tf.saved_model.load loads the version itself")
    family = row.family()
    try:
        text = family.read_metadata(path)
        metadata = parse_json(text)
        spec, labels = Preprocessing(**metadata["preprocessing"]), list(map(str, metadata["labels"]))
        temperature = float(metadata["calibration"]["temperature"])
        network = family.load(path)
        blank = network(np.zeros([1, *spec.image_size, 3], np.float32))
    except Exception as error:  # the runtimes have errors of many kinds for a file that they cannot read
        message = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{str(path)!r} cannot be loaded: {message}") from error
    weak = weakref.ref(network)

    def run(images: np.ndarray) -> list[np.ndarray]:  # TensorFlow keeps it until the process ends
        answered = weak()(images)  # type: ignore[misc]
        return [answered[name] for name in ("logits", "embedding")]

    def forward(images: tf.Tensor) -> list[tf.Tensor]:
        logits, embedding = tf.numpy_function(run, [images], [tf.float32, tf.float32], stateful=False)
        return [
            tf.ensure_shape(logits, [None, *blank["logits"].shape[1:]]),
            tf.ensure_shape(embedding, [None, *blank["embedding"].shape[1:]]),
        ]

    return LoadedSignatures(signatures_of(forward, labels, spec, temperature, text), network)
