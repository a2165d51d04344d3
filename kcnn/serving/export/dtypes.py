"""A network's graph with fewer bits: computed in bfloat16, or with weights kept as float16."""

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from kcnn.serving.export.network import CONVOLUTIONS, GraphEditor, Network, node_name, rewrite, simplify


def in_bfloat16(network: Network) -> Network:
    """Return the network in bfloat16: its weights, its products, and what lies between them.

    TensorFlow's list says which operations bear bfloat16. Sums within products stay float32. So does the matrix product
    that makes the logits, the first output: among logits of eight bits the two largest are too often equal.
    """
    on = rewriter_config_pb2.RewriterConfig.ON
    name = "auto_mixed_precision_onednn_bfloat16"
    nodes = {node.name: node for node in network.graph.node}
    last = network.outputs[0]
    while nodes[last].input and nodes[last].op not in ("MatMul", *CONVOLUTIONS):
        last = node_name(nodes[last].input[0])
    kept = [last] if nodes[last].op == "MatMul" else []
    return simplify(rewrite(network, name, kept=kept, **{name: on}))


def in_half_size(network: Network) -> Network:
    """Return the network with large weights kept as float16; weights beyond its range stay float32."""
    graph = GraphEditor(network)
    for name, weights in network.weights.items():
        if weights.dtype == np.float32 and np.abs(weights).max() <= np.finfo(np.float16).max:
            half = f"{name}/half"
            graph.constant(half, weights.astype(np.float16))
            graph.nodes[name] = node = tf.compat.v1.NodeDef(name=name, op="Cast", input=[half])
            node.attr["SrcT"].type, node.attr["DstT"].type = (x.as_datatype_enum for x in (tf.float16, tf.float32))
    return graph.network()
