"""OpenVINO's intermediate representation, by OpenVINO itself."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kcnn.errors import UserError
from kcnn.serving.export.network import IMAGES
from kcnn.serving.formats.source import OUTPUTS, FormatSource

# OpenVINO reports its import to Google Analytics, unless this package is missing.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def write(name: str, source: FormatSource, file: Path) -> None:
    """Write the network (.xml) and, beside it, its weights (.bin); the export's JSON is rt_info["metadata"].

    Weights are float32. With float16, OpenVINO's own choice, answers would agree to a part in a thousand only.
    """
    import openvino

    try:
        converted = openvino.convert_model(str(source.saved_model))
    except openvino.frontend.OpConversionFailure as error:
        unknown = ", ".join(re.findall(r"operations: (.*)", str(error))) or str(error).splitlines()[0]
        raise UserError(f"format {name!r}: OpenVINO has no operation for this network's {unknown}") from error
    (images,) = converted.inputs
    images.get_tensor().set_names({IMAGES})
    results = {output.get_any_name(): output.get_node() for output in converted.outputs}
    model = openvino.Model([results[output] for output in OUTPUTS], converted.get_parameters(), "kcnn")
    model.set_rt_info(source.metadata, "metadata")
    openvino.save_model(model, file, compress_to_fp16=False)


def load(file: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return the function float32 [N, h, w, 3] → outputs, on the CPU. Threads may share it.

    In float32, but in bfloat16 where the export has shown that its SavedModel bears it. OpenVINO's own choice is
    bfloat16 wherever the processor has it.
    """
    import openvino

    rounded = json.loads(read_metadata(file))["export"]["precision"] == "bfloat16"
    # LATENCY: a request after the other, each on all cores.
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if rounded else "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(file, "CPU", hints)
    idle: list[Any] = []  # requests; each is one thread's at a time

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        try:
            request = idle.pop()
        except IndexError:
            request = compiled.create_infer_request()
        answered = request.infer({IMAGES: images}, share_inputs=True)
        found = {output: answered[output] for output in OUTPUTS}  # copies
        idle.append(request)
        return found

    return answer


def read_metadata(file: Path) -> str:
    """Return the export's JSON."""
    import openvino

    return openvino.Core().read_model(file).get_rt_info(["metadata"]).astype(str)
