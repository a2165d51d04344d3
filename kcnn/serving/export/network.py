"""A network as a frozen graph and its weights: made from a Keras model, edited node by node, called as a function.

The graph is rewritten for inference by `kcnn.serving.export.folding` and `kcnn.serving.export.dtypes`. All of them work
on the graph, and so for any layers.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tensorflow.python.grappler import tf_optimizer

IMAGES = "images"
# Graphs are copied at every step: weights of this size and above stay out of them until the end.
LARGE_BYTES = 2**14
# TensorFlow copies constants so often while it loads them that beyond this size seconds and gigabytes would be lost
# (measured: VGG-16, 528 MiB, 58 s and 20 GB): the largest weights stay variables.
CONSTANT_BYTES = 128 * 2**20
CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


@dataclasses.dataclass(frozen=True)
class Network:
    """A graph and its weights.

    Attributes:
        graph: from the placeholder `images`, float32 [N, h, w, 3], to the outputs; channels are the last axis.
        outputs: the names of the nodes that are asked for.
        weights: the large weights, by the names of their placeholders.
    """

    graph: tf.compat.v1.GraphDef
    outputs: tuple[str, ...]
    weights: Mapping[str, np.ndarray]


def freeze(model: keras.Model) -> Network:
    """Return a model's graph at inference, without anything that its outputs do not need (dropout, auxiliary heads).

    Assertions of shapes go too: `kcnn.nn.convolutions.GroupedConv` has one, which would hide its bias from folding.

    Args:
        model: float32 [N, h, w, 3] → its outputs.
    """
    large = {
        f"weights_{index}": variable
        for index, variable in enumerate(model.variables)
        if variable.dtype == "float32" and 4 * np.prod(variable.shape) >= LARGE_BYTES
    }

    def forward(images: tf.Tensor, weights: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        with keras.StatelessScope(state_mapping=[(variable, weights[name]) for name, variable in large.items()]):
            return model(images, training=False)

    specs = {name: tf.TensorSpec(variable.shape, tf.float32, name=name) for name, variable in large.items()}
    images = tf.TensorSpec([None, *model.input_shape[1:]], tf.float32, name=IMAGES)
    traced = tf.function(forward, input_signature=[images, specs], autograph=False).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced)
    outputs = tuple(tensor.op.name for tensor in frozen.outputs)
    weights = {name: variable.numpy() for name, variable in large.items()}
    editor = GraphEditor(simplify(Network(frozen.graph.as_graph_def(), outputs, weights)))
    for name in [name for name, node in editor.nodes.items() if node.op == "EnsureShape"]:
        editor.replace(name, editor.nodes[name].input[0])
    return editor.network()


def rewrite(network: Network, *passes: str, kept: Sequence[str] = (), **toggles: int) -> Network:
    """Return the network after passes of TensorFlow's own optimizer, grappler.

    Args:
        network: the network.
        passes: the names of the passes, in their order.
        kept: the names of nodes that stay as they are.
        toggles: fields of RewriterConfig that switch further passes.
    """
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


def simplify(network: Network) -> Network:
    """Return the network with constants computed ahead, and without the nodes that the outputs do not depend on."""
    return _compute_weights(rewrite(network, "constfold", "dependency"))


def _compute_weights(network: Network) -> Network:
    """Return the network with what depends on large weights alone computed, as grappler does it for constants."""
    graph = GraphEditor(network)
    constant: set[str] = set()
    for name in graph.order():
        node = graph.nodes[name]
        sources = {node_name(source) for source in node.input}
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


class GraphEditor:
    """A network that is being rewritten.

    Attributes:
        nodes: name → node.
        users: the name of a node → the names of the nodes that take from it, each as often as it does.
    """

    def __init__(self, network: Network):
        self.nodes = {node.name: copy.copy(node) for node in network.graph.node}
        self.users: dict[str, list[str]] = {}
        for node in network.graph.node:
            for source in node.input:
                self.users.setdefault(node_name(source), []).append(node.name)
        self._network, self._weights = network, dict(network.weights)

    def network(self) -> Network:
        """Return the network as it is now, without the nodes that its outputs do not need."""
        needed, ahead = {IMAGES}, list(self._network.outputs)
        while ahead:
            name = ahead.pop()
            if name not in needed:
                needed.add(name)
                ahead += map(node_name, self.nodes[name].input)
        nodes = [node for name, node in self.nodes.items() if name in needed]
        placeholders = {node.name for node in nodes if node.op == "Placeholder"}
        weights = {name: value for name, value in self._weights.items() if name in placeholders}
        graph = tf.compat.v1.GraphDef(versions=self._network.graph.versions, node=nodes)
        return dataclasses.replace(self._network, graph=graph, weights=weights)

    def order(self) -> list[str]:
        """Return the names of the nodes, each after the nodes that it takes from."""
        sources = {name: [node_name(source) for source in node.input] for name, node in self.nodes.items()}
        return list(TopologicalSorter(sources).static_order())

    def value(self, source: str) -> np.ndarray | None:
        """Return the value of a constant, float64; None for another node."""
        name = node_name(source)
        if name in self._weights:
            return self._weights[name].astype(np.float64)
        node = self.nodes[name]
        return tf.make_ndarray(node.attr["value"].tensor).astype(np.float64) if node.op == "Const" else None

    def constant(self, name: str, value: np.ndarray) -> None:
        """Add a constant, or make a node one."""
        self.nodes[name] = node = tf.compat.v1.NodeDef(name=name)
        kind = tf.as_dtype(value.dtype).as_datatype_enum
        if value.nbytes < LARGE_BYTES:
            node.op = "Const"
            node.attr["dtype"].type = kind
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        else:
            node.op = "Placeholder"
            node.attr["dtype"].type = kind
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(value.shape).as_proto())
            self._weights[name] = value

    def bias_add(self, name: str, source: str, bias: np.ndarray) -> None:
        """Add a BiasAdd, or make a node one."""
        self.constant(f"{name}/bias", bias.astype(np.float32))
        self.nodes[name] = node = tf.compat.v1.NodeDef(name=name, op="BiasAdd", input=[source, f"{name}/bias"])
        node.attr["T"].type = tf.float32.as_datatype_enum

    def only_for(self, name: str, user: str) -> bool:
        """Return whether nothing but `user` takes from a node."""
        return self.users[name] == [user] and name not in self._network.outputs

    def replace(self, old: str, new: str) -> None:
        """Make the users of `old` take from `new`."""
        users = self.users.pop(old, [])
        for user in users:
            node = self.nodes[user]
            node.input[:] = [new if node_name(source) == old else source for source in node.input]
        self.users.setdefault(new, []).extend(users)


def node_name(source: str) -> str:
    """Return the name of the node that an input takes from."""
    return source.removeprefix("^").partition(":")[0]


def as_function(network: Network) -> tuple[tf.types.experimental.ConcreteFunction, list[tf.Variable]]:
    """Return the network as a function, and the variables that it needs.

    Returns:
        The function from float32 [N, h, w, 3] to the list of outputs; and the weights that stay variables, which are to
        be saved with it.
    """
    graph, room = tf.compat.v1.GraphDef(), CONSTANT_BYTES
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
    def forward(images: tf.Tensor) -> list[tf.Tensor]:
        given = {IMAGES: images} | {name: variable.read_value() for name, variable in variables.items()}
        return _outputs(graph, given, network.outputs)

    return forward.get_concrete_function(), list(variables.values())


def _outputs(graph: tf.compat.v1.GraphDef, given: Mapping[str, tf.Tensor], names: Sequence[str]) -> list[tf.Tensor]:
    return tf.graph_util.import_graph_def(
        graph, input_map=given, return_elements=[f"{name}:0" for name in names], name="network"
    )
