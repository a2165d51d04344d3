"""What runs a version: TensorFlow, as TensorFlow Serving runs it.

Another runtime is another function from a version's folder to a `Model`, and a row in RUNTIMES.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from kcnn.serving.server.status import BY_NUMBER, StatusError, invalid

DEFAULT_SIGNATURE = "serving_default"
REFUSED = "the model refuses the inputs"


@dataclasses.dataclass(frozen=True)
class Spec:
    """What a tensor may be: its dtype (`object` for strings, of `bytes`), and sizes, None where any will do; a shape of
    None is of any rank.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None

    @property
    def batched(self) -> bool:
        """Whether the first dimension is open."""
        return self.shape is not None and self.shape[:1] == (None,)


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of a model."""

    name: str
    method: str
    inputs: dict[str, Spec]
    outputs: dict[str, Spec]

    @property
    def batched(self) -> bool:
        """Whether requests can be joined along the first dimension of everything."""
        return bool(self.inputs) and all(spec.batched for spec in [*self.inputs.values(), *self.outputs.values()])


class Model(Protocol):
    """A version in memory; all of it may be called from several threads.

    Attributes:
        signatures: name → what it takes and gives.
        signature_defs: name → the same as TensorFlow's proto, for clients that ask for metadata.
    """

    signatures: dict[str, Signature]
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Raises StatusError, with INVALID_ARGUMENT for what the inputs are to blame for."""

    def close(self) -> None:
        """Frees it. Nothing runs any more, nor will."""


class _TensorFlow:
    """A SavedModel in a session."""

    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]

    def __init__(self, directory: Path):
        config = tf.compat.v1.ConfigProto()
        config.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default():
                graph = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(directory))
            self.signature_defs = dict(graph.signature_def)
            defs = {name: found for name, found in graph.signature_def.items() if not name.startswith("__")}
            self.signatures = {name: _signature(name, found) for name, found in defs.items()}
            self._functions = {
                name: self._session.make_callable(
                    [found.outputs[output].name for output in self.signatures[name].outputs],
                    feed_list=[found.inputs[key].name for key in self.signatures[name].inputs],
                )
                for name, found in defs.items()
            }
        except BaseException:
            self._session.close()
            raise

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        specs = self.signatures[signature]
        try:
            outputs = self._functions[signature](*(inputs[name] for name in specs.inputs))
        except tf.errors.OpError as error:
            raise StatusError(BY_NUMBER[error.error_code], _first_words(error.message)) from error
        except UnicodeDecodeError as error:  # the message has the client's bytes in it, and TensorFlow chokes on them
            raise invalid(REFUSED) from error
        found = zip(specs.outputs.items(), outputs, strict=True)
        return {name: np.asarray(value, spec.dtype) for (name, spec), value in found}

    def close(self) -> None:
        self._functions.clear()
        self._session.close()


def _first_words(message: str) -> str:
    """What TensorFlow says went wrong, without where in the graph."""
    lines = (line.strip() for line in message.splitlines() if not line.startswith("\t"))
    return next((line for line in lines if line not in ("", "Graph execution error:")), REFUSED)


def _signature(name: str, found: meta_graph_pb2.SignatureDef) -> Signature:
    inputs = {key: _spec(found.inputs[key]) for key in sorted(found.inputs)}
    outputs = {key: _spec(found.outputs[key]) for key in sorted(found.outputs)}
    return Signature(name, found.method_name, inputs, outputs)


def _spec(info: meta_graph_pb2.TensorInfo) -> Spec:
    shape = tf.TensorShape(info.tensor_shape)
    dtype = np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype)
    return Spec(dtype, None if shape.rank is None else tuple(shape.as_list()))


RUNTIMES: dict[str, Callable[[Path], Model]] = {"tensorflow": _TensorFlow}
