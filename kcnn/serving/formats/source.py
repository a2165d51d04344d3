"""The network that all formats are made of: in float32, folded for inference, followed by temperature and softmax."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kcnn.errors import UserError
from kcnn.serving.export.network import IMAGES, Network, as_function

OUTPUTS = ("probabilities", "logits", "embedding")


class _Answers(tf.Module):
    """The function images → outputs, with its variables."""

    def __init__(self, network: Network, temperature: float):
        super().__init__()
        forward, self.weights = as_function(network)
        (images,) = forward.structured_input_signature[0]

        @tf.function(input_signature=[tf.TensorSpec(images.shape, tf.float32, name=IMAGES)], autograph=False)
        def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
            logits, features = forward(images)
            probabilities = tf.nn.softmax(logits / temperature)
            return dict(zip(OUTPUTS, (probabilities, logits, features), strict=True))

        self.answer = answer


@dataclasses.dataclass(frozen=True)
class FormatSource:
    """A network on its way into other formats.

    Attributes:
        saved_model: a folder with a SavedModel of it whose one signature takes `images` float32 [N, h, w, 3] and
            answers OUTPUTS.
        graph: the same as a graph without variables: from the placeholder `images` to the nodes OUTPUTS.
        metadata: the JSON of the export.
        calibration: float32 [M, h, w, 3], M ≥ 0 training images as the network sees them.
    """

    saved_model: Path
    graph: tf.compat.v1.GraphDef
    metadata: str
    calibration: np.ndarray

    @functools.cached_property
    def labels(self) -> list[str]:
        """The class names, in the order of the logits."""
        return json.loads(self.metadata)["labels"]


def make_source(
    network: Network, temperature: float, metadata: str, calibration: np.ndarray, folder: Path
) -> FormatSource:
    """Return what all formats are made of.

    Args:
        network: float32, folded; its outputs are logits [N, C] and features [N, D].
        temperature: the divisor of the logits before the softmax.
        metadata: the JSON of the export.
        calibration: as in `FormatSource`.
        folder: is made, for files that are needed until the last format is written.

    Raises:
        UserError: the network calls functions that are not in its graph.
    """
    calls = sorted({node.attr["f"].func.name for node in network.graph.node if node.op.endswith("PartitionedCall")})
    if calls:
        # Keras' grouped convolution calls one, for XLA; kcnn.nn.convolutions.GroupedConv calls none.
        called = ", ".join(name.removeprefix("__inference_") for name in calls)
        raise UserError(f"formats other than savedmodel: this network calls {called}, which no other runtime has")
    network = dataclasses.replace(network, graph=_without_lowest_numbers(network.graph))
    module = _Answers(network, temperature)
    concrete = module.answer.get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures=concrete)
    return FormatSource(folder, _frozen(concrete), metadata, calibration)


def _without_lowest_numbers(definition: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """Return the graph with other margins for max pooling than float32's lowest number.

    That number would take the whole scale of int8. After a ReLU the margins become zeros. Elsewhere they repeat the
    numbers at the edge, which the windows there hold in any case.
    """
    rewritten = tf.compat.v1.GraphDef()
    rewritten.CopyFrom(definition)
    nodes = {node.name: node for node in rewritten.node}
    for node in [node for node in rewritten.node if node.op == "PadV2"]:
        source, margins, filler = (nodes[name] for name in node.input)
        users = [user for user in rewritten.node if node.name in user.input]
        sides = tf.make_ndarray(margins.attr["value"].tensor).max(axis=1)
        within = all((2 * sides <= user.attr["ksize"].list.i).all() for user in users if user.op == "MaxPool")
        lowest = tf.make_ndarray(filler.attr["value"].tensor) == np.finfo(np.float32).min
        if not lowest or {user.op for user in users} != {"MaxPool"} or not within:
            continue
        del node.input[2]
        node.op = "Pad" if source.op in ("Relu", "Relu6") else "MirrorPad"
        if node.op == "MirrorPad":
            node.attr["mode"].s = b"SYMMETRIC"
    return rewritten


def _frozen(concrete: Any) -> tf.compat.v1.GraphDef:
    """Return a function as a graph without variables and calls, its outputs under their names."""
    frozen = convert_variables_to_constants_v2(concrete)
    definition = _known_widely(frozen.graph.as_graph_def())
    nodes = {node.name: node for node in definition.node}
    # TensorFlow sorts the keys of a dict, and adds an Identity after each.
    for name, output in zip(sorted(OUTPUTS), frozen.outputs, strict=True):
        nodes[output.op.name].name = name
    return definition


def _known_widely(definition: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """Return the graph with 1 - erf(x) for Erfc: Keras' GELU uses it, and neither ONNX nor TensorFlow.js has it."""
    for node in [node for node in definition.node if node.op == "Erfc"]:
        kind = node.attr["T"].type
        one = definition.node.add(name=f"{node.name}/one", op="Const")
        one.attr["dtype"].type = kind
        one.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, kind))
        erf = definition.node.add(name=f"{node.name}/erf", op="Erf", input=node.input)
        erf.attr["T"].type = kind
        node.op, node.input[:] = "Sub", [one.name, erf.name]
    return definition
