"""ONNX, by tf2onnx; run by ONNX Runtime."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kcnn.errors import UserError
from kcnn.serving.export.network import IMAGES
from kcnn.serving.formats.source import OUTPUTS, FormatSource

OPSET = 17  # of 2022, which every runtime knows; what came later has nothing for these networks


def write(name: str, source: FormatSource, file: Path) -> None:
    """Write a checked ModelProto; the export's JSON is its metadata_props["metadata"]."""
    import onnx
    import tf2onnx

    model, _ = tf2onnx.convert.from_graph_def(
        source.graph,
        name="kcnn",
        input_names=[f"{IMAGES}:0"],
        output_names=[f"{output}:0" for output in OUTPUTS],
        opset=OPSET,
        tensors_to_rename={f"{tensor}:0": tensor for tensor in (IMAGES, *OUTPUTS)},
    )
    unknown = sorted({node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)})
    if unknown:
        raise UserError(f"format {name!r}: ONNX has no operation for this network's {', '.join(unknown)}")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    model.metadata_props.add(key="metadata", value=source.metadata)
    onnx.checker.check_model(model)
    onnx.save(model, file)


def load(file: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return the function float32 [N, h, w, 3] → outputs, by ONNX Runtime on the CPU. Threads may share it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Its threads would wait for work in a loop, and take the cores from decoders and other runtimes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda images: dict(zip(OUTPUTS, session.run(list(OUTPUTS), {IMAGES: images}), strict=True))


def read_metadata(file: Path) -> str:
    """Return the export's JSON."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return session.get_modelmeta().custom_metadata_map["metadata"]
