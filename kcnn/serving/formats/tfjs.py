"""TensorFlow.js' graph model: TensorFlow's graph as JSON, its constants in files of 4 MiB; for `tf.loadGraphModel`.

It is written here because the package tensorflowjs needs an older TensorFlow. The layout follows tfjs-converter
(https://github.com/tensorflow/tfjs/tree/master/tfjs-converter, `convert_variables_to_constants` to `write_weights`).
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from kcnn.errors import UserError
from kcnn.serving.export.network import IMAGES
from kcnn.serving.formats.source import OUTPUTS, FormatSource

SHARD_BYTES = 4 * 2**20  # browsers keep files of this size in their caches
_DTYPES = (tf.float32, tf.int32, tf.bool)
# Of the operations in tfjs-converter's op_list those that networks here consist of.
OPERATIONS = (
    *("AddV2", "AvgPool", "BiasAdd", "ConcatV2", "Const", "Conv2D", "DepthwiseConv2dNative", "Elu", "Erf", "Exp"),
    *("ExpandDims", "FusedBatchNormV3", "Identity", "LRN", "LeakyRelu", "MatMul", "Max", "MaxPool", "Maximum", "Mean"),
    *("Minimum", "MirrorPad", "Mul", "Neg", "NoOp", "Pack", "Pad", "PadV2", "Placeholder", "RealDiv", "Relu", "Relu6"),
    *("Reshape", "ReverseV2", "Rsqrt", "Selu", "Shape", "Sigmoid", "Slice", "Softmax", "Softplus", "Split", "SplitV"),
    *("Sqrt", "Square", "SquaredDifference", "Squeeze", "StopGradient", "StridedSlice", "Sub", "Sum", "Tanh", "Tile"),
    "Transpose",
)


def write(name: str, source: FormatSource, file: Path) -> None:
    """Write the graph (.json) and its weights; the export's JSON is its userDefinedMetadata["metadata"]."""
    imported = tf.Graph()
    with imported.as_default():
        tf.import_graph_def(source.graph, name="")
    lacking = _lacking(imported)
    if lacking:
        raise UserError(f"format {name!r}: TensorFlow.js has no operation for this network's {', '.join(lacking)}")
    graph = tf.compat.v1.GraphDef()
    graph.CopyFrom(source.graph)
    weights, content = [], []
    for node in graph.node:
        for attribute in [key for key in node.attr if key.startswith("_")]:
            del node.attr[attribute]
        if node.op == "Const":
            value = node.attr["value"].tensor
            array = tf.make_ndarray(value)
            weights.append({"name": node.name, "shape": list(array.shape), "dtype": array.dtype.name})
            content.append(array.astype(array.dtype.newbyteorder("<")).tobytes())
            value.CopyFrom(tensor_pb2.TensorProto(dtype=value.dtype, tensor_shape=value.tensor_shape))
    joined = b"".join(content)
    parts = [joined[start : start + SHARD_BYTES] for start in range(0, len(joined), SHARD_BYTES)]
    paths = [f"group1-shard{index}of{len(parts)}.bin" for index in range(1, len(parts) + 1)]
    for path, part in zip(paths, parts, strict=True):
        (file.parent / path).write_bytes(part)

    def describe_tensor(tensor: str) -> dict[str, Any]:
        known = imported.get_tensor_by_name(f"{tensor}:0")
        dtype, shape = known.dtype.as_datatype_enum, known.shape.as_proto()
        return json_format.MessageToDict(meta_graph_pb2.TensorInfo(name=known.name, dtype=dtype, tensor_shape=shape))

    model = {
        "format": "graph-model",
        "generatedBy": "kcnn",
        "convertedBy": "kcnn",
        "signature": {
            "inputs": {IMAGES: describe_tensor(IMAGES)},
            "outputs": {output: describe_tensor(output) for output in OUTPUTS},
        },
        "userDefinedMetadata": {"metadata": source.metadata},
        "modelTopology": json_format.MessageToDict(graph),
        "weightsManifest": [{"paths": paths, "weights": weights}],
    }
    file.write_text(json.dumps(model, ensure_ascii=False), encoding="utf-8")


def _lacking(graph: tf.Graph) -> list[str]:
    """Return the names of the graph's operations that TensorFlow.js does not have."""
    operations = graph.get_operations()
    lacking = {operation.type for operation in operations}.difference(OPERATIONS)
    for operation in operations:
        if operation.type == "Conv2D":
            images, kernel = operation.inputs
            if images.shape[-1] != kernel.shape[2]:
                lacking.add("Conv2D of groups of channels")
        if operation.type == "Const" and operation.outputs[0].dtype not in _DTYPES:
            lacking.add(f"Const of {operation.outputs[0].dtype.name}")
    return sorted(lacking)


def read_metadata(file: Path) -> str:
    """Return the export's JSON."""
    return json.loads(file.read_text(encoding="utf-8"))["userDefinedMetadata"]["metadata"]


def load(file: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return the function float32 [N, h, w, 3] → outputs of the files.

    TensorFlow computes it: there is no TensorFlow.js in Python.
    """
    model = json.loads(file.read_text(encoding="utf-8"))
    graph = json_format.ParseDict(model["modelTopology"], tf.compat.v1.GraphDef())
    nodes = {node.name: node for node in graph.node}
    for group in model["weightsManifest"]:
        content, start = b"".join((file.parent / path).read_bytes() for path in group["paths"]), 0
        for weight in group["weights"]:
            dtype = np.dtype(weight["dtype"]).newbyteorder("<")
            array = np.frombuffer(content, dtype, int(np.prod(weight["shape"])), start).reshape(weight["shape"])
            nodes[weight["name"]].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
            start += array.nbytes
    shape = tf.TensorShape(nodes[IMAGES].attr["shape"].shape)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def forward(images: tf.Tensor) -> list[tf.Tensor]:
        names = [f"{output}:0" for output in OUTPUTS]
        return tf.graph_util.import_graph_def(graph, input_map={IMAGES: images}, return_elements=names)

    return lambda images: {name: got.numpy() for name, got in zip(OUTPUTS, forward(images), strict=True)}
