"""Run a version by TensorFlow, as TensorFlow Serving does, or by another of `kcnn.serving.prediction.runtimes`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from kcnn.plain_paths import plain_path
from kcnn.serving.prediction import runtimes
from kcnn.serving.server.status import BY_NUMBER, StatusError, invalid

DEFAULT_SIGNATURE = "serving_default"
CLASSIFY = "tensorflow/serving/classify"
BYTES_SUFFIX = "_bytes"  # TensorFlow Serving's ending of the inputs and outputs that are bytes, not text
EXAMPLES = "examples"  # the usual input of serialized tf.Examples
REFUSED = "the model refuses the inputs"


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """The dtype and shape of an input or output.

    Attributes:
        dtype: `object` for strings, which are `bytes`.
        shape: the sizes, None for any size; None for a shape of any rank.
        binary: whether the strings of an input are files or messages, which are never text.
    """

    dtype: np.dtype
    shape: tuple[int | None, ...] | None
    binary: bool = False

    @property
    def batched(self) -> bool:
        """True when the first dimension is open."""
        return self.shape is not None and self.shape[:1] == (None,)


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of a model."""

    name: str
    method: str
    inputs: dict[str, ArraySpec]
    outputs: dict[str, ArraySpec]

    @property
    def batched(self) -> bool:
        """True when requests can be joined along the first dimension of all inputs and outputs."""
        return bool(self.inputs) and all(spec.batched for spec in [*self.inputs.values(), *self.outputs.values()])


class LoadedModel(Protocol):
    """A version in memory; all of it may be called from several threads.

    Attributes:
        signatures: name → what it takes and gives.
        signature_defs: name → the same as TensorFlow's proto, for clients that ask for metadata.
    """

    signatures: dict[str, Signature]
    signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a signature.

        Raises:
            StatusError: the model fails; INVALID_ARGUMENT where the inputs are to blame.
        """

    def close(self) -> None:
        """Free the model. Nothing runs any more, nor will."""


class _Functions:
    """A model of which each signature is a function from its inputs, one after the other, to its outputs."""

    def __init__(
        self,
        signature_defs: Mapping[str, meta_graph_pb2.SignatureDef],
        function_of: Callable[[Signature, meta_graph_pb2.SignatureDef], Callable[..., Sequence[Any]]],
        close: Callable[[], None],
    ):
        self.signature_defs = signature_defs
        found = {name: one for name, one in signature_defs.items() if not name.startswith("__")}
        self.signatures = {name: _signature(name, one) for name, one in found.items()}
        self._functions = {name: function_of(self.signatures[name], one) for name, one in found.items()}
        self._close = close

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
        self._close()


def _tensorflow(directory: Path) -> LoadedModel:
    """Load a SavedModel into a session."""
    config = tf.compat.v1.ConfigProto()
    config.gpu_options.allow_growth = True
    session = tf.compat.v1.Session(graph=tf.Graph(), config=config)

    def function_of(signature: Signature, found: meta_graph_pb2.SignatureDef) -> Callable[..., Sequence[Any]]:
        return session.make_callable(
            [found.outputs[output].name for output in signature.outputs],
            feed_list=[found.inputs[key].name for key in signature.inputs],
        )

    try:
        with session.graph.as_default(), plain_path(directory) as path:
            graph = tf.compat.v1.saved_model.load(session, [tf.saved_model.SERVING], path)
        return _Functions(dict(graph.signature_def), function_of, session.close)
    except BaseException:
        session.close()
        raise


def _other(runtime: str, directory: Path) -> LoadedModel:
    """Load a version's signatures with its network in another runtime."""
    loaded = runtimes.load_runtime(runtime, directory)
    saved = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())

    def function_of(signature: Signature, _: meta_graph_pb2.SignatureDef) -> Callable[..., Sequence[Any]]:
        def run(*inputs: np.ndarray) -> list[np.ndarray]:
            outputs = loaded.signatures[signature.name](*map(tf.constant, inputs))
            return [outputs[name].numpy() for name in signature.outputs]

        return run

    return _Functions(dict(saved.meta_graphs[0].signature_def), function_of, loaded.signatures.clear)


def _first_words(message: str) -> str:
    """Return the error of TensorFlow's message, without the place in the graph."""
    lines = (line.strip() for line in message.splitlines() if not line.startswith("\t"))
    return next((line for line in lines if line not in ("", "Graph execution error:")), REFUSED)


def _signature(name: str, found: meta_graph_pb2.SignatureDef) -> Signature:
    classifies = found.method_name == CLASSIFY  # serialized tf.Examples, by whatever name
    inputs = {
        key: _spec(found.inputs[key], binary=classifies or key == EXAMPLES or key.endswith(BYTES_SUFFIX))
        for key in sorted(found.inputs)
    }
    outputs = {key: _spec(found.outputs[key]) for key in sorted(found.outputs)}
    return Signature(name, found.method_name, inputs, outputs)


def _spec(info: meta_graph_pb2.TensorInfo, binary: bool = False) -> ArraySpec:
    shape = tf.TensorShape(info.tensor_shape)
    dtype = np.dtype(tf.dtypes.as_dtype(info.dtype).as_numpy_dtype)
    return ArraySpec(dtype, None if shape.rank is None else tuple(shape.as_list()), binary)


RUNTIMES: dict[str, Callable[[Path], LoadedModel]] = {
    **{name: functools.partial(_other, name) for name in runtimes.RUNTIMES},
    "tensorflow": _tensorflow,
}
