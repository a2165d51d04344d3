"""Inherited weights: a network of inverted residuals begins with the weights of another.

MobileNetV2 and EfficientNet-Lite are one sequence of stages, whose blocks differ in channels, kernels and number. What
has the same shape is copied. Of what is larger, the channels that matter most are taken, the same ones wherever a
channel is written or read, and the middles of kernels. A block beyond the teacher's last of a stage begins as the
identity. The sums that batch norm sees are then others: its statistics have to be measured anew, as
`kcnn.training.batch_norm.recalibrate_batch_norm` does.
"""

import re

import keras
import numpy as np
import tensorflow as tf

from kcnn.errors import UserError
from kcnn.weights.copy import LoadReport

_BLOCK = re.compile(r"(stage\d+)_block(\d+)_(expand|depthwise|project)")
# Layer → the tensors that it reads and writes, each by the name of what writes it first.
_Flow = dict[str, tuple[str, str]]


def inherit_weights(student: keras.Model, teacher: keras.Model) -> LoadReport:
    """Give `student` the weights of `teacher`, whole or in part.

    Channels that the teacher does not have keep the student's own weights.

    Args:
        student: a network of inverted residuals; its outputs are the teacher's.
        teacher: a network of the same stages.

    Returns:
        the number of convolutions and classifiers that received weights.

    Raises:
        UserError: the two are not networks of the same stages; `student` is as it was.
    """
    own, theirs = _flow(student), _flow(teacher)
    found = {name: _source(name, theirs) for name in own}
    sources = {name: source for name, source in found.items() if source is not None}
    if not sources or len(sources) < len(own):
        raise UserError(
            f"--weights teacher: {student.name} has not the stages of {teacher.name}, so it cannot begin with its "
            "weights; mobilenetv2 and efficientnetlite0 go together; expected --weights none, or another --teacher"
        )
    importance = _importance(teacher, theirs)
    for name, source in sources.items():
        layer, other = student.get_layer(name), teacher.get_layer(source)
        read, written = (
            _most_important(importance.get(tensor), count)
            for tensor, count in zip(theirs[source], _channels(layer), strict=True)
        )
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        taken = other.kernel.numpy()[..., read, :] if depthwise else other.kernel.numpy()[..., read, :][..., written]
        layer.kernel.assign(_put_into(layer.kernel.numpy(), taken))
        vectors = [(layer, other, ["bias"])] if layer.use_bias else []
        if f"{name}_norm" in {each.name for each in student.layers}:
            norms = student.get_layer(f"{name}_norm"), teacher.get_layer(f"{source}_norm")
            vectors.append((*norms, ["gamma", "beta", "moving_mean", "moving_variance"]))
        for target, origin, names in vectors:
            for variable, value in ((getattr(target, each), getattr(origin, each)) for each in names):
                variable.assign(_put_into(variable.numpy(), value.numpy()[written]))
        if name not in theirs and name.endswith("_project"):
            for variable in (norms[0].gamma, norms[0].beta):
                variable.assign(tf.zeros_like(variable))
    return LoadReport(teacher.name, len(sources))


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
    return flow if any(map(_BLOCK.fullmatch, flow)) and "head_logits" in flow else {}


def _source(name: str, theirs: _Flow) -> str | None:
    """Return the teacher's layer for one of the student's: of the same block, or of the stage's last; None without."""
    if name in theirs:
        return name
    block = _BLOCK.fullmatch(name)
    same = [
        other
        for other in theirs
        if block and (found := _BLOCK.fullmatch(other)) and (found[1], found[3]) == (block[1], block[3])
    ]
    return same[-1] if same else None


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


def _most_important(importance: np.ndarray | None, count: int) -> np.ndarray | slice:
    """Return the indices of the `count` most important channels in order; all channels of a tensor without any."""
    return slice(None) if importance is None else np.sort(np.argsort(-importance, kind="stable")[:count])


def _channels(layer: keras.Layer) -> tuple[int, int]:
    """Return how many channels a layer reads and writes."""
    read, written = layer.kernel.shape[-2:]
    return (read, read) if isinstance(layer, keras.layers.DepthwiseConv2D) else (read, written)


def _put_into(whole: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Return `whole` with `part` in it: a kernel in the middle of the kernel, channels from the first on.

    What of `part` lies outside is left out. Around a smaller kernel there are zeros.
    """
    result = whole.copy()
    spatial = range(2) if whole.ndim == 4 else ()
    common = [min(sizes) for sizes in zip(whole.shape, part.shape, strict=True)]
    begins = [
        [(shape[axis] - common[axis]) // 2 * (axis in spatial) for axis in range(whole.ndim)]
        for shape in (whole.shape, part.shape)
    ]
    inside, taken = (
        tuple(slice(first, first + size) for first, size in zip(begin, common, strict=True)) for begin in begins
    )
    result[(slice(None),) * len(spatial) + inside[len(spatial) :]] = 0
    result[inside] = part[taken]
    return result
