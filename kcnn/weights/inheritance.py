"""Inherited weights: a network of inverted residuals begins with what it can hold of another's function.

MobileNetV2 and EfficientNet-Lite are one sequence of stages, whose blocks differ in channels, kernels and number. Up to
the first layer that differs, weights are copied. From there on, each convolution is solved by least squares: from what
the student's layers before it give, for what the teacher gives at that place, before the activation. So a layer makes
up for what those before it lost (Zhang et al., "Accelerating Very Deep Convolutional Networks for Classification and
Detection", TPAMI 2016, section 3.3; He, Zhang & Sun, "Channel Pruning", ICCV 2017, section 3.1).

Between blocks there is no activation. So a narrower stream may hold any mixtures of the teacher's channels, and holds
their principal components (Ashkboos et al., "SliceGPT", ICLR 2024, section 3). Within blocks, the channels that matter
most are taken. A block beyond the teacher's last of a stage learns what the blocks before it left over.
"""

import re
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf
from keras import KerasTensor

from kcnn.errors import UserError
from kcnn.progress import bar
from kcnn.weights.copy import LoadReport

_BLOCK = re.compile(r"(stage\d+)_block(\d+)_(expand|depthwise|project)")
_RIDGE = 1e-4  # of the mean square of a layer's inputs
_ROUNDS = 7  # of solving a layer before an activation anew
_WINDOWS = 1 / 64  # of an image that are looked at, for each weight of a layer
# Layer → the tensors that it reads and writes, each by the name of what writes it first.
_Flow = dict[str, tuple[str, str]]


def check_heir(student: keras.Model, teacher: keras.Model) -> None:
    """Check that `student` can inherit from `teacher`.

    Raises:
        UserError: the two are not networks of the same stages.
    """
    own, theirs = _flow(student), _flow(teacher)
    if not own or not all(_source(name, own, theirs) for name in own):
        raise UserError(
            f"--weights teacher: {student.name} has not the stages of {teacher.name}, so it cannot begin with its "
            "weights; mobilenetv2 and efficientnetlite0 go together; expected --weights none, or another --teacher"
        )


def inherit_weights(student: keras.Model, teacher: keras.Model, batches: Iterable[tf.Tensor]) -> LoadReport:
    """Give `student` what it can hold of the function of `teacher`, with the statistics of its batch norm.

    Channels beyond the teacher's keep the student's own weights.

    Args:
        student: a network of inverted residuals; its outputs are the teacher's.
        teacher: a network of the same stages.
        batches: images float32 [B, H, W, 3] in 0-255, of the size of both; they are held in memory.

    Returns:
        the number of convolutions and classifiers that received weights.

    Raises:
        UserError: the two are not networks of the same stages; `student` is as it was.
    """
    check_heir(student, teacher)
    own, theirs = _flow(student), _flow(teacher)
    own_blocks, their_blocks = _boundaries(student, own), _boundaries(teacher, theirs)
    images = [np.asarray(batch, np.float32) for batch in batches]
    given, taught = _Activations(student, images), _Activations(teacher, images)
    importance = _importance(teacher, theirs)
    mixtures: dict[str, np.ndarray] = {}  # of a stage's channels
    copied = True  # so far
    for name in bar(own, description="Inheriting", unit="layer"):
        source = str(_source(name, own, theirs))
        layer, other = student.get_layer(name), teacher.get_layer(source)
        begin, end = own_blocks[_block(name)]
        their_begin, their_end = their_blocks[_block(source)]
        if name == "head_logits":
            read = _most_important(importance[theirs[source][0]], layer.kernel.shape[0])
            kernel = np.zeros(layer.kernel.shape, np.float32)
            kernel[: len(read)] = other.kernel.numpy()[read]
            layer.set_weights([kernel, other.bias.numpy()])
            continue
        copied = copied and source == name and _is_alike(layer, other)
        if copied:
            for suffix in ("", "_norm"):
                student.get_layer(name + suffix).set_weights(teacher.get_layer(source + suffix).get_weights())
            continue
        given.hold(begin)
        taught.hold(their_begin)
        if name.endswith("_project"):
            stage = theirs[source][1]
            if stage not in mixtures:
                outputs = [each for block, (_, each) in their_blocks.items() if block.startswith(f"{stage}_block")]
                mixtures[stage] = _principal_components(taught.values(*outputs), layer.kernel.shape[-1])
            mixture = mixtures[stage]
            wanted = (answer @ mixture for (answer,) in taught.values(their_end))
            if end is not student.get_layer(f"{name}_norm").output:  # a residual block
                pairs = zip(wanted, given.held, strict=True)
                wanted = (whole - before[..., : mixture.shape[1]] for whole, before in pairs)
            _solve(student, name, given.values(layer.input), wanted)
        else:
            chosen = _most_important(importance[theirs[source][1]], _channels(layer))
            answers = taught.values(teacher.get_layer(f"{source}_norm").output)
            _solve(student, name, given.values(layer.input), (answer[..., chosen] for (answer,) in answers))
    return LoadReport(teacher.name, len(own))


def _flow(model: keras.Model) -> _Flow:
    """Return which tensors each convolution and the classifier read and write; {} for another kind of network."""
    flow: _Flow = {}
    stream, hidden = "pixels", ""
    for layer in model.layers:
        block = _BLOCK.fullmatch(layer.name)
        if block and block[3] == "expand":
            hidden = f"{block[1]}_block{block[2]}"
            flow[layer.name] = stream, hidden
        elif block and block[3] == "depthwise":
            hidden = hidden or stream
            flow[layer.name] = hidden, hidden
        elif block:
            flow[layer.name] = hidden, block[1]
            stream, hidden = block[1], ""
        elif re.fullmatch(r"(stem|stage\d+)_conv|head_logits", layer.name):
            flow[layer.name] = stream, layer.name.split("_")[0]
            stream = layer.name.split("_")[0]
        elif layer.weights and not isinstance(layer, keras.layers.BatchNormalization):
            return {}
    names = {layer.name for layer in model.layers}
    normed = all(f"{name}_norm" in names for name in flow if name != "head_logits")
    return flow if normed and any(map(_BLOCK.fullmatch, flow)) and "head_logits" in flow else {}


def _source(name: str, own: _Flow, theirs: _Flow) -> str | None:
    """Return the teacher's layer for one of the student's; None without.

    The last block of a stage takes the teacher's last, a block beyond the teacher's last the same.
    """
    block = _BLOCK.fullmatch(name)
    if not block:
        return name if name in theirs else None
    stage, number, part = block.groups()
    mine, others = (
        [found for each in flow if (found := _BLOCK.fullmatch(each)) and (found[1], found[3]) == (stage, part)]
        for flow in (own, theirs)
    )
    if mine[-1][2] == number:
        return others[-1][0] if others else None
    return name if name in theirs else others[-1][0] if others else None


def _block(name: str) -> str:
    """Return the block of a layer, or the layer's own name outside of blocks."""
    block = _BLOCK.fullmatch(name)
    return f"{block[1]}_block{block[2]}" if block else name


def _boundaries(model: keras.Model, flow: _Flow) -> dict[str, tuple[KerasTensor, KerasTensor]]:
    """Return what each block, and each layer outside of blocks, reads and gives to the next, in order."""
    blocks = list(dict.fromkeys(map(_block, flow)))
    firsts = {_block(name): name for name in reversed(flow)}
    read = [model.get_layer(firsts[block]).input for block in blocks]
    return dict(zip(blocks, zip(read, [*read[1:], model.output], strict=True), strict=True))


class _Activations:
    """The tensors of a network for some images, computed from a tensor that is held."""

    def __init__(self, model: keras.Model, images: list[np.ndarray]):
        self.tensor, self.held = model.input, images

    def hold(self, tensor: KerasTensor) -> None:
        """Hold another tensor, from which what comes after it is computed."""
        if tensor is not self.tensor:
            self.held = [each for (each,) in self.values(tensor)]
            self.tensor = tensor

    def values(self, *tensors: KerasTensor) -> Iterator[list[np.ndarray]]:
        """Return the values of tensors, a list for each batch."""
        if tensors[0] is self.tensor:
            yield from ([batch] for batch in self.held)
            return
        forward = keras.Model(self.tensor, list(tensors))
        for batch in self.held:
            yield [np.asarray(each, np.float32) for each in keras.tree.flatten(forward(batch, training=False))]


def _importance(model: keras.Model, flow: _Flow) -> dict[str, np.ndarray]:
    """Return how much each channel of each tensor matters: the size of what writes it times that of what reads it.

    A writer's size is its batch norm's scale, a reader's that of its weights.

    Returns:
        tensor → float [channels], for all but the first and the last tensor.
    """
    written: dict[str, np.ndarray] = {}
    read: dict[str, np.ndarray] = {}
    for name, (source, target) in flow.items():
        kernel = model.get_layer(name).kernel.numpy()
        others = tuple(axis for axis in range(kernel.ndim) if axis != kernel.ndim - 2)
        read[source] = read.get(source, 0) + np.sqrt(np.square(kernel).sum(axis=others))
        if name != "head_logits":
            written[target] = written.get(target, 0) + np.abs(model.get_layer(f"{name}_norm").gamma.numpy())
    return {tensor: written[tensor] * read[tensor] for tensor in written}


def _most_important(importance: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the `count` most important channels in order; of all where there are no more."""
    return np.sort(np.argsort(-importance, kind="stable")[:count])


def _channels(layer: keras.Layer) -> int:
    """Return how many channels a convolution writes."""
    return layer.kernel.shape[-2 if isinstance(layer, keras.layers.DepthwiseConv2D) else -1]


def _is_alike(layer: keras.Layer, other: keras.Layer) -> bool:
    """Return whether two convolutions differ in their weights' values alone."""
    return layer.kernel.shape == other.kernel.shape and layer.strides == other.strides


def _principal_components(batches: Iterable[list[np.ndarray]], count: int) -> np.ndarray:
    """Return the mixtures of channels that keep most of their variance.

    Args:
        batches: of arrays [..., C], all of the same channels.
        count: of the mixtures.

    Returns:
        float64 [C, count] with orthonormal columns; where there are no more than `count` channels, the identity.
    """
    number, total, squares = 0, np.zeros(()), np.zeros(())
    for rows in (each.reshape(-1, each.shape[-1]) for batch in batches for each in batch):
        if rows.shape[1] <= count:
            return np.eye(rows.shape[1])
        number, total, squares = number + len(rows), total + rows.sum(0, np.float64), squares + rows.T @ rows
    covariance = squares / number - np.outer(total, total) / number**2
    return np.linalg.eigh(covariance)[1][:, ::-1][:, :count]


def _solve(model: keras.Model, name: str, inputs: Iterable[list[np.ndarray]], wanted: Iterable[np.ndarray]) -> None:
    """Give a convolution and its batch norm the weights that come closest to what is wanted of them.

    Where an activation follows, what it makes equal is as good: of ReLU's inputs below 0, nothing but the sign counts.
    So what is wanted is replaced by what is found wherever both are answered alike, and the layer is solved anew, some
    times over, which never loses (Zhang et al. 2016, section 3.2, solve the same by another relaxation).

    Args:
        model: whose layers `name` and `name`_norm get weights; the norm's statistics are those of `inputs`.
        name: of the convolution.
        inputs: of it, batches of one array [N, H, W, C] each.
        wanted: outputs of the norm, [N, h, w, K]; K is the number of channels, or smaller: those beyond keep their
            weights.
    """
    layer, norm = model.get_layer(name), model.get_layer(f"{name}_norm")
    activation = next((each for each in model.layers if each.name == f"{name}_act"), None)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    rng = np.random.default_rng(0)
    samples = [_sample(layer, values, targets, rng) for (values,), targets in zip(inputs, wanted, strict=True)]
    windows, targets = (np.concatenate(each, axis=1) for each in zip(*samples, strict=True))
    gram = (windows.transpose(0, 2, 1) @ windows).astype(np.float64) / windows.shape[1]
    ridge = _RIDGE * np.trace(gram, axis1=1, axis2=2)[:, None, None] / gram.shape[-1] * np.eye(gram.shape[-1])
    used = windows[: len(targets)]

    def solve(rows: np.ndarray) -> np.ndarray:
        cross = (used.transpose(0, 2, 1) @ rows).astype(np.float64) / windows.shape[1]
        return np.linalg.solve((gram + ridge)[: len(targets)], cross)

    solution = solve(targets)
    if activation:
        answers = np.asarray(activation(targets))
        for _ in range(_ROUNDS):
            found = used @ solution.astype(np.float32)
            solution = solve(np.where(np.asarray(activation(found)) == answers, found, targets))

    kernel = layer.kernel.numpy()
    weights = kernel.reshape(-1, _channels(layer))
    new = solution[:, :-1, 0].T if depthwise else solution[0, :-1]
    # The norm gives back the scale and the shift that it takes away. So kernels may be of any size, and have that of
    # random ones (He et al., ICCV 2015), to which the usual learning rates belong.
    scale = np.sqrt(2 / len(new)) / max(float(np.sqrt(np.square(new).mean())), 1e-12)
    count = new.shape[1]
    weights[:, :count] = scale * new
    layer.kernel.assign(weights.reshape(kernel.shape))
    groups = weights.T[:, :, None] if depthwise else weights[None]
    mean = (gram[:, -1:, :-1] @ groups).reshape(-1)
    square = np.einsum("gko,gkl,glo->go", groups, gram[:, :-1, :-1], groups, optimize=True).reshape(-1)
    variance = np.maximum(square - mean**2, 0.0)
    gamma, beta = norm.gamma.numpy(), norm.beta.numpy()
    gamma[:count] = np.sqrt(variance + norm.epsilon)[:count] / scale
    beta[:count] = mean[:count] / scale + solution[:, -1].reshape(-1)
    norm.set_weights([gamma, beta, mean, variance])


def _sample(
    layer: keras.Layer, values: np.ndarray, targets: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return some of the windows that a convolution weighs, each with a one for the shift, and what is wanted of them.

    A depthwise convolution has its channels as G groups of L positions. Another has one, of positions times channels.

    Args:
        layer: the convolution.
        values: of its input, [N, H, W, C].
        targets: of its output, [N, h, w, K].
        rng: draws the windows, `_WINDOWS` an image for each of the L weights, but 64 at least.

    Returns:
        float32 [G, windows, L + 1] and [G, windows, K / G].
    """
    side, strides, depthwise = layer.kernel_size, layer.strides, isinstance(layer, keras.layers.DepthwiseConv2D)
    patches = tf.image.extract_patches(
        values, [1, *side, 1], [1, *strides, 1], [1, 1, 1, 1], layer.padding.upper()
    ).numpy()
    rows, targets = (each.reshape(-1, each.shape[-1]) for each in (patches, targets.astype(np.float32)))
    length = side[0] * side[1] * (1 if depthwise else values.shape[-1])
    chosen = rng.permutation(len(rows))[: max(64, round(_WINDOWS * len(values) * length))]
    rows, targets = rows[chosen], targets[chosen]
    grouped = rows.reshape(len(rows), -1, values.shape[-1]).transpose(2, 0, 1) if depthwise else rows[None]
    windows = np.concatenate([grouped, np.ones((*grouped.shape[:2], 1), np.float32)], axis=2)
    return windows, targets.T[:, :, None] if depthwise else targets[None]
