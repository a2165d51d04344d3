"""A network's graph rewritten for inference: no part of it that only training needs, what is constant computed, batch
norm folded into convolutions, in bfloat16 where that is wanted.

What is left are convolutions and matrix products with a bias and an activation behind, each of which TensorFlow runs as
one kernel. Works on the graph, and so for whatever layers a network is made of.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer

IMAGES = "images"
# Graphs are copied at every step: weights of this size and above stay out of them until the end.
_LARGE_BYTES = 2**14
# While loading, TensorFlow copies constants so often that beyond this size seconds and gigabytes would be lost
# (measured: VGG-16, 528 MiB, 58 s and 20 GB): the largest weights stay variables.
_CONSTANT_BYTES = 128 * 2**20
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


@dataclasses.dataclass(frozen=True)
class Network:
    """A graph and its weights.

    Attributes:
        graph: from the placeholder `images`, float32 [N, h, w, 3], to the outputs; channels are the last axis.
        outputs: the names of the nodes that are asked for.
        weights: the large ones, by the names of their placeholders.
    """

    graph: tf.compat.v1.GraphDef
    outputs: tuple[str, ...]
    weights: Mapping[str, np.ndarray]


def freeze(model: keras.Model) -> Network:
    """`model` as it answers now, its auxiliary heads, dropout and the like gone if its outputs do not need them."""
    large = {
        f"weights_{index}": variable
        for index, variable in enumerate(model.variables)
        if variable.dtype == "float32" and 4 * np.prod(variable.shape) >= _LARGE_BYTES
    }

    def forward(images: tf.Tensor, weights: dict[str, tf.Tensor]) -> Any:
        with keras.StatelessScope(state_mapping=[(variable, weights[name]) for name, variable in large.items()]):
            return model(images, training=False)

    specs = {name: tf.TensorSpec(variable.shape, tf.float32, name=name) for name, variable in large.items()}
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name=IMAGES)
    traced = tf.function(forward, input_signature=[images, specs], autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    outputs = tuple(tensor.op.name for tensor in frozen.outputs)
    weights = {name: variable.numpy() for name, variable in large.items()}
    return _simplify(Network(frozen.graph.as_graph_def(), outputs, weights))


def _rewrite(network: Network, *passes: str, kept: Sequence[str] = (), **toggles: int) -> Network:
    """What TensorFlow's own passes of these names make of the graph, but for the nodes that are `kept`."""
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(network.graph, name="")
    meta = tf.compat.v1.train.export_meta_graph(graph_def=network.graph, graph=graph)
    meta.collection_def["train_op"].node_list.value.extend([*network.outputs, *kept])
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.CopyFrom(
        rewriter_config_pb2.RewriterConfig(
            optimizers=passes, min_graph_nodes=-1, meta_optimizer_iterations=1, fail_on_optimizer_errors=True, **toggles
        )
    )
    return dataclasses.replace(network, graph=tf_optimizer.OptimizeGraph(config, meta))


def _simplify(network: Network) -> Network:
    """With what does not depend on the images computed, and without what the outputs do not depend on."""
    return _compute_weights(_rewrite(network, "constfold", "dependency"))


def _compute_weights(network: Network) -> Network:
    """With what is made of large weights computed, as TensorFlow's pass does it for constants."""
    graph = _Graph(network)
    constant: set[str] = set()
    for name in graph.order():
        node = graph.nodes[name]
        sources = {_name(source) for source in node.input}
        if node.op == "Const" or name in network.weights or (sources and sources <= constant):
            constant.add(name)
    made = [
        name
        for name in constant - set(network.weights)
        if graph.nodes[name].op != "Const" and any(user not in constant for user in graph.users.get(name, []))
    ]
    if made:
        compute = tf.function(lambda weights: _outputs(network.graph, weights, made), autograph=False)
        for name, value in zip(made, compute(dict(network.weights)), strict=True):
            graph.constant(name, value.numpy())
    return graph.network()


class _Graph:
    """A network that is being rewritten.

    Attributes:
        nodes: by their names.
        users: the name of a node → those that take from it, each as often as it does.
    """

    def __init__(self, network: Network):
        self.nodes = {node.name: copy.copy(node) for node in network.graph.node}
        self.users: dict[str, list[str]] = {}
        for node in network.graph.node:
            for source in node.input:
                self.users.setdefault(_name(source), []).append(node.name)
        self._network, self._weights = network, dict(network.weights)

    def network(self) -> Network:
        """What it is now, without the nodes that its outputs do not need."""
        needed, ahead = {IMAGES}, list(self._network.outputs)
        while ahead:
            name = ahead.pop()
            if name not in needed:
                needed.add(name)
                ahead += map(_name, self.nodes[name].input)
        nodes = [node for name, node in self.nodes.items() if name in needed]
        placeholders = {node.name for node in nodes if node.op == "Placeholder"}
        weights = {name: value for name, value in self._weights.items() if name in placeholders}
        graph = tf.compat.v1.GraphDef(versions=self._network.graph.versions, node=nodes)
        return dataclasses.replace(self._network, graph=graph, weights=weights)

    def order(self) -> list[str]:
        """The nodes, each behind those that it takes from."""
        sources = {name: [_name(source) for source in node.input] for name, node in self.nodes.items()}
        return list(TopologicalSorter(sources).static_order())

    def value(self, source: str) -> np.ndarray | None:
        """Of a constant, float64; None of another node."""
        name = _name(source)
        if name in self._weights:
            return self._weights[name].astype(np.float64)
        node = self.nodes[name]
        return tf.make_ndarray(node.attr["value"].tensor).astype(np.float64) if node.op == "Const" else None

    def constant(self, name: str, value: np.ndarray) -> None:
        """Adds a constant, or makes a node one."""
        self.nodes[name] = node = tf.compat.v1.NodeDef(name=name)
        kind = tf.as_dtype(value.dtype).as_datatype_enum
        if value.nbytes < _LARGE_BYTES:
            node.op = "Const"
            node.attr["dtype"].type = kind
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        else:
            node.op = "Placeholder"
            node.attr["dtype"].type = kind
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            self._weights[name] = value

    def bias_add(self, name: str, source: str, bias: np.ndarray) -> None:
        """Adds one, or makes a node one."""
        self.constant(f"{name}/bias", bias.astype(np.float32))
        self.nodes[name] = node = tf.compat.v1.NodeDef(name=name, op="BiasAdd", input=[source, f"{name}/bias"])
        node.attr["T"].type = tf.float32.as_datatype_enum

    def only_for(self, name: str, user: str) -> bool:
        """Whether nothing but `user` takes from a node."""
        return self.users[name] == [user] and name not in self._network.outputs

    def replace(self, old: str, new: str) -> None:
        """Has those that take from `old` take from `new`."""
        users = self.users.pop(old, [])
        for user in users:
            node = self.nodes[user]
            node.input[:] = [new if _name(source) == old else source for source in node.input]
        self.users.setdefault(new, []).extend(users)


def _name(source: str) -> str:
    """The node of an input."""
    return source.removeprefix("^").partition(":")[0]


def fold(network: Network) -> Network:
    """With the scales and offsets of channels that stand next to a convolution or matrix product in its weights and
    its bias: batch norm (Ioffe & Szegedy, ICML 2015, section 3.1), layer scale, the scale of pixels.
    """
    graph = _Graph(network)
    for name in reversed(graph.order()):
        _fold_forwards(graph, name)
    for name in graph.order():
        _fold_backwards(graph, name)
    return _simplify(graph.network())


def _affine(graph: _Graph, name: str) -> tuple[str, np.ndarray, np.ndarray] | None:
    """What the node takes, by which constants it multiplies that, and which it adds; None where it does otherwise."""
    node = graph.nodes[name]
    if any(source.startswith("^") for source in node.input):
        return None
    if node.op == "FusedBatchNormV3" and not node.attr["is_training"].b and node.attr["data_format"].s == b"NHWC":
        gamma, beta, mean, variance = (graph.value(source) for source in node.input[1:])
        if gamma is None or beta is None or mean is None or variance is None:
            return None
        scale = gamma / np.sqrt(variance + node.attr["epsilon"].f)
        return node.input[0], scale, beta - mean * scale
    if node.op not in ("Mul", "AddV2", "Sub", "BiasAdd") or node.attr["T"].type != tf.float32.as_datatype_enum:
        return None
    data, other = node.input
    constant = graph.value(other)
    if constant is None and node.op in ("Mul", "AddV2"):
        data, constant = other, graph.value(data)
    if constant is None:
        return None
    if node.op == "Mul":
        return data, constant, np.zeros(())
    return data, np.ones(()), -constant if node.op == "Sub" else constant


def _weights(graph: _Graph, name: str) -> np.ndarray | None:
    """Those of a convolution or matrix product by constants, float64; None of another node."""
    node = graph.nodes[name]
    if node.op == "MatMul":
        usual = not node.attr["transpose_a"].b and not node.attr["transpose_b"].b
    else:
        usual = node.op in _CONVOLUTIONS and node.attr["data_format"].s == b"NHWC"
    return graph.value(node.input[1]) if usual and node.attr["T"].type == tf.float32.as_datatype_enum else None


def _by_channel(values: np.ndarray, channels: int) -> np.ndarray | None:
    """[channels], of what is the same everywhere else; None where it is not."""
    if values.size != 1 and values.shape != (1,) * (values.ndim - 1) + (channels,):
        return None
    return np.broadcast_to(values.reshape(-1), [channels])


def _fold_forwards(graph: _Graph, name: str) -> None:
    """Takes an affine node out where all that take from it are convolutions or matrix products that can do its work."""
    affine = _affine(graph, name)
    if affine is None:
        return
    source, scale, offset = affine
    changed = []
    for user in graph.users.get(name, []):
        node, weights = graph.nodes[user], _weights(graph, user)
        if weights is None or node.input[0] != name:
            return
        padded = node.op != "MatMul" and node.attr["padding"].s != b"VALID" and weights.shape[:2] != (1, 1)
        if padded and offset.any():  # the margin's zeros have no offset
            return
        by_position = weights.reshape(-1, *weights.shape[-2:])  # [positions, channels in, channels out or multiplier]
        scales, offsets = (_by_channel(values, weights.shape[-2]) for values in (scale, offset))
        if scales is None or offsets is None:
            return
        bias = np.einsum("pim,i->im" if node.op == "DepthwiseConv2dNative" else "pio,i->o", by_position, offsets)
        changed.append((node, (by_position * scales[:, None]).reshape(weights.shape), bias.reshape(-1)))
    for node, weights, bias in changed:
        node.input[1] = f"{node.name}/of/{name}"
        graph.constant(node.input[1], weights.astype(np.float32))
        if bias.any():
            biased = f"{node.name}/biased"
            graph.replace(node.name, biased)
            graph.bias_add(biased, node.name, bias)
            graph.users[node.name] = [biased]
    if changed:
        graph.replace(name, _name(source))
        graph.users[_name(source)].remove(name)
        del graph.nodes[name]


def _fold_backwards(graph: _Graph, name: str) -> None:
    """Makes an affine node the bias of the convolution or matrix product in front of it, and its scale theirs."""
    affine = _affine(graph, name)
    if affine is None:
        return
    source, scale, offset = affine
    before = graph.nodes[_name(source)]
    biased = before.op == "BiasAdd"
    product = graph.nodes[_name(before.input[0])] if biased else before
    weights, bias = _weights(graph, product.name), graph.value(before.input[1]) if biased else np.zeros(())
    lonely = graph.only_for(before.name, name) and (not biased or graph.only_for(product.name, before.name))
    if weights is None or bias is None or not lonely:
        return
    outwards = weights.shape[-2:] if product.op == "DepthwiseConv2dNative" else weights.shape[-1:]
    channels = int(np.prod(outwards))
    scales, offsets = _by_channel(scale, channels), _by_channel(offset, channels)
    if scales is None or offsets is None:
        return
    if (scales != 1).any():
        product.input[1] = f"{product.name}/by/{name}"
        graph.constant(product.input[1], (weights * scales.reshape(outwards)).astype(np.float32))
    graph.bias_add(name, product.name, bias * scales + offsets)
    if biased:
        graph.users[product.name] = [name]
        del graph.nodes[before.name]


def in_bfloat16(network: Network) -> Network:
    """With convolutions and matrix products, and what lies between them, in bfloat16, as far as TensorFlow's list of
    what bears it goes; weights too. Sums within them stay float32, and so does a matrix product that the logits come
    from, the first output: of logits with eight bits, the largest two are too often equal.
    """
    on = rewriter_config_pb2.RewriterConfig.ON
    name = "auto_mixed_precision_onednn_bfloat16"
    nodes = {node.name: node for node in network.graph.node}
    last = network.outputs[0]
    while nodes[last].input and nodes[last].op not in ("MatMul", *_CONVOLUTIONS):
        last = _name(nodes[last].input[0])
    kept = [last] if nodes[last].op == "MatMul" else []
    return _simplify(_rewrite(network, name, kept=kept, **{name: on}))


def in_half_size(network: Network) -> Network:
    """With the large weights as float16 that is cast to float32, but where one is beyond float16's range."""
    graph = _Graph(network)
    for name, weights in network.weights.items():
        if weights.dtype == np.float32 and np.abs(weights).max() <= np.finfo(np.float16).max:
            half = f"{name}/half"
            graph.constant(half, weights.astype(np.float16))
            graph.nodes[name] = node = tf.compat.v1.NodeDef(name=name, op="Cast", input=[half])
            node.attr["SrcT"].type, node.attr["DstT"].type = (x.as_datatype_enum for x in (tf.float16, tf.float32))
    return graph.network()


def as_function(network: Network) -> tuple[tf.types.experimental.ConcreteFunction, list[tf.Variable]]:
    """float32 [N, h, w, 3] → the outputs, in order; and the variables among the weights, which are to be saved."""
    graph, room = tf.compat.v1.GraphDef(), _CONSTANT_BYTES
    graph.CopyFrom(network.graph)
    nodes = {node.name: node for node in graph.node}
    variables = {}
    for name, value in sorted(network.weights.items(), key=lambda item: item[1].nbytes):
        room -= value.nbytes
        if room < 0:
            variables[name] = tf.Variable(value, trainable=False)
            continue
        node = nodes[name]
        node.op = "Const"
        tensor = node.attr["value"].tensor
        tensor.dtype, tensor.tensor_content = node.attr["dtype"].type, value.tobytes()
        tensor.tensor_shape.CopyFrom(node.attr["shape"].shape)
        del node.attr["shape"]
    shape = tf.TensorShape(nodes[IMAGES].attr["shape"].shape)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32)], autograph=False)
    def forward(images):
        given = {IMAGES: images} | {name: variable.read_value() for name, variable in variables.items()}
        return _outputs(graph, given, network.outputs)

    return forward.get_concrete_function(), list(variables.values())


def _outputs(graph: tf.compat.v1.GraphDef, given: Mapping[str, tf.Tensor], names: Sequence[str]) -> list[tf.Tensor]:
    return tf.graph_util.import_graph_def(
        graph, input_map=given, return_elements=[f"{name}:0" for name in names], name="network"
    )
