"""A network's graph rewritten for inference: scales and offsets of channels go into the weights beside them.

What is left are convolutions and matrix products followed by a bias and an activation, each of which TensorFlow runs as
one kernel.
"""

import numpy as np
import tensorflow as tf

from kcnn.serving.export.network import CONVOLUTIONS, GraphEditor, Network, node_name, simplify


def fold(network: Network) -> Network:
    """Return the network with scales and offsets of channels moved into the products beside them.

    A product is a convolution or a matrix product by constant weights. Its weights and its bias take the scales and
    offsets before and after it: batch norm (Ioffe & Szegedy, ICML 2015, section 3.1), layer scale, the scale of pixels.
    """
    graph = GraphEditor(network)
    for name in reversed(graph.order()):
        _fold_forwards(graph, name)
    for name in graph.order():
        _fold_backwards(graph, name)
    return simplify(graph.network())


def _affine(graph: GraphEditor, name: str) -> tuple[str, np.ndarray, np.ndarray] | None:
    """Return a node's input, the constants that it multiplies it by and adds to it; None for a node of another kind."""
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


def _product_weights(graph: GraphEditor, name: str) -> np.ndarray | None:
    """Return the weights of a convolution or matrix product by constants, float64; None for another node."""
    node = graph.nodes[name]
    if node.op == "MatMul":
        usual = not node.attr["transpose_a"].b and not node.attr["transpose_b"].b
    else:
        usual = node.op in CONVOLUTIONS and node.attr["data_format"].s == b"NHWC"
    return graph.value(node.input[1]) if usual and node.attr["T"].type == tf.float32.as_datatype_enum else None


def _by_channel(values: np.ndarray, channels: int) -> np.ndarray | None:
    """Return values that differ by channel alone as [channels]; None for other values."""
    if values.size != 1 and values.shape != (1,) * (values.ndim - 1) + (channels,):
        return None
    return np.broadcast_to(values.reshape(-1), [channels])


def _fold_forwards(graph: GraphEditor, name: str) -> None:
    """Remove an affine node whose users are all products, and give its work to them."""
    affine = _affine(graph, name)
    if affine is None:
        return
    source, scale, offset = affine
    changed = []
    for user in graph.users.get(name, []):
        node, weights = graph.nodes[user], _product_weights(graph, user)
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
        graph.replace(name, node_name(source))
        graph.users[node_name(source)].remove(name)
        del graph.nodes[name]


def _fold_backwards(graph: GraphEditor, name: str) -> None:
    """Make an affine node the bias of the product before it, and move its scale into the product's weights."""
    affine = _affine(graph, name)
    if affine is None:
        return
    source, scale, offset = affine
    before = graph.nodes[node_name(source)]
    biased = before.op == "BiasAdd"
    product = graph.nodes[node_name(before.input[0])] if biased else before
    weights, bias = _product_weights(graph, product.name), graph.value(before.input[1]) if biased else np.zeros(())
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


def add_grouped_biases(network: Network) -> Network:
    """Return the network with the bias of each grouped convolution as an AddV2 in place of a BiasAdd.

    TensorFlow's optimizer fuses a convolution with the BiasAdd after it, on every CPU. The fused kernel knows groups
    with oneDNN alone: on a CPU without it (or under TF_ENABLE_ONEDNN_OPTS=0) the network would not run. An AddV2 is
    fused with oneDNN, and not fused without it.

    Source: IsBiasSemanticAdd in tensorflow/core/grappler/optimizers/remapper.cc
    """
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(network.graph, name="")
    convolutions = [operation for operation in imported.get_operations() if operation.type == "Conv2D"]
    grouped = {one.name for one in convolutions if one.inputs[0].shape[-1] != one.inputs[1].shape[2]}
    editor = GraphEditor(network)
    for node in editor.nodes.values():
        if node.op == "BiasAdd" and node_name(node.input[0]) in grouped:
            node.op = "AddV2"
            node.attr.pop("data_format", None)
    return editor.network()
