"""What HTTP and gRPC do alike with a request: is it small enough, which model and signature, are its inputs right."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from grpc import StatusCode
from tensorflow_serving.apis import input_pb2

from kcnn.errors import nearest
from kcnn.serving.server.batching import Arrays, Batcher
from kcnn.serving.server.images import pixels
from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.models import Models, Servable
from kcnn.serving.server.runtime import DEFAULT_SIGNATURE, Signature, Spec
from kcnn.serving.server.settings import Settings
from kcnn.serving.server.status import StatusError, invalid

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "Regress: the models here are classifiers; ask Classify or Predict"


class Requests:
    """All that requests share: the models, the queue, the limits, the figures.

    Attributes:
        draining: the server is about to end, and answers only what it has begun.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models(settings, self.metrics)
        self.batcher = Batcher(settings, self.metrics)
        self.draining = False
        self._held = 0

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""
        return not self.draining and self.models.ready()

    def model_label(self, name: str) -> str:
        """The model's name for the figures, of which clients must not make up any number."""
        return name if name in self.models.served else ""

    @contextlib.contextmanager
    def hold(self) -> Iterator["Held"]:
        """Counts the bytes of a request while it is in memory."""
        held = Held(self)
        try:
            yield held
        finally:
            self._hold(-held.size)

    def _hold(self, size: int) -> None:
        limit = self.settings.max_request_bytes * self.settings.HELD_REQUESTS
        if size > 0 and self._held + size > limit:
            raise StatusError(
                StatusCode.RESOURCE_EXHAUSTED, f"requests of {self._held} bytes are in work; try again later"
            )
        self._held += size
        self.metrics.held_bytes.set(self._held)

    @contextlib.contextmanager
    def lease(
        self, name: str, version: int | None, label: str | None, signature: str
    ) -> Iterator[tuple[Servable, Signature]]:
        """The version and the signature that answer; they stay loaded within.

        Raises:
            StatusError: there are none of these names.
        """
        servable = self.models.find(name, version, label)
        with servable.in_use():
            known = servable.model.signatures
            wanted = signature or DEFAULT_SIGNATURE
            if wanted not in known:
                hint = nearest(wanted, sorted(known))
                raise invalid(f'Serving signature name: "{wanted}" not found in signature def; {hint}')
            yield servable, known[wanted]

    async def answer(self, servable: Servable, signature: Signature, inputs: Arrays) -> Arrays:
        """The outputs.

        Raises:
            StatusError: INVALID_ARGUMENT: the inputs are wrong; RESOURCE_EXHAUSTED: too much waits already; or what the
                model says.
        """
        rows = self._check(signature, inputs)
        outputs = await self.batcher.run(servable, signature, inputs, rows)
        for name, array in outputs.items():
            if not _finite(array):
                raise invalid(f"output {name!r} is not finite: the inputs are far outside of what the model takes")
        return outputs

    async def classify(
        self, servable: Servable, signature: Signature, examples: Sequence[bytes]
    ) -> list[list[tuple[str, float]]]:
        """Each example's classes with their scores, as the model orders them.

        Raises:
            StatusError: as `answer`; and for a signature that does not classify.
        """
        if signature.method != CLASSIFY:
            known = [one.name for one in servable.model.signatures.values() if one.method == CLASSIFY]
            raise invalid(
                f"Expected classification signature method_name to be {CLASSIFY}. Was: {signature.method}; "
                f"signature_name that does: {', '.join(known) or 'none of this model'}"
            )
        if not examples:
            raise invalid("Input is empty: expected one example or more")
        batch = np.empty(len(examples), dtype=object)
        batch[:] = examples
        outputs = await self.answer(servable, signature, dict.fromkeys(signature.inputs, batch))
        scores = outputs.get("scores")
        classes = outputs.get("classes")
        found = []
        for row in range(len(examples)):
            names = [name.decode("utf-8", "replace") for name in classes[row]] if classes is not None else None
            values = scores[row].tolist() if scores is not None else [0.0] * len(names or [])
            found.append(list(zip(names or [""] * len(values), values, strict=True)))
        return found

    def _check(self, signature: Signature, inputs: Arrays) -> int:
        """How many rows there are to answer."""
        for name in signature.inputs:
            if name not in inputs:
                raise invalid(f"Missing named input: {name}; signature {signature.name!r} takes {_takes(signature)}")
        for name, array in inputs.items():
            if name not in signature.inputs:
                raise invalid(f"input {name!r} is unknown; signature {signature.name!r} takes {_takes(signature)}")
            _check_input(name, array, signature.inputs[name])
            if array.dtype == object:
                self._check_pixels(name, array)
        if not signature.batched:
            return 1
        counts = {name: len(array) for name, array in inputs.items()}
        rows = max(counts.values())
        if min(counts.values()) != rows:
            raise invalid(f"inputs have different numbers of rows: {counts}")
        if rows > self.settings.queue_rows:
            raise invalid(f"{rows} rows in a request: expected at most {self.settings.queue_rows}")
        return rows

    def _check_pixels(self, name: str, array: np.ndarray) -> None:
        most = self.settings.max_pixels
        for row, value in enumerate(array.ravel()):
            size = max(map(pixels, _images(value)), default=0)
            if size > most:
                raise invalid(f"input {name!r}, row {row}: an image of {size} pixels: expected at most {most}")


class Held:
    """The bytes of one request."""

    def __init__(self, requests: Requests):
        self._requests = requests
        self.size = 0

    def add(self, size: int) -> None:
        """Raises StatusError RESOURCE_EXHAUSTED when all requests together have too many."""
        self._requests._hold(size)
        self.size += size


def examples_of(given: input_pb2.Input) -> list[bytes]:
    """The serialized tf.Examples of an Input; a context's features stand in each."""
    if given.HasField("example_list_with_context"):
        context = given.example_list_with_context.context.SerializeToString()
        # The bytes of two messages, one after the other, are those of both merged.
        return [context + one.SerializeToString() for one in given.example_list_with_context.examples]
    return [one.SerializeToString() for one in given.example_list.examples]


def _takes(signature: Signature) -> str:
    return ", ".join(f"{name!r}, {_describe(spec)}" for name, spec in signature.inputs.items()) or "no input"


def _describe(spec: Spec) -> str:
    kind = "string" if spec.dtype == object else spec.dtype.name
    sizes = "..." if spec.shape is None else ", ".join("?" if size is None else str(size) for size in spec.shape)
    return f"{kind} [{sizes}]"


def _check_input(name: str, array: np.ndarray, spec: Spec) -> None:
    found = _describe(Spec(array.dtype, array.shape))
    fits = spec.shape is None or (
        len(spec.shape) == array.ndim
        and all(want in (None, size) for want, size in zip(spec.shape, array.shape, strict=True))
    )
    if array.dtype != spec.dtype or not fits:
        raise invalid(f"input {name!r}: expected {_describe(spec)}, found {found}")
    if 0 in array.shape[1:]:
        raise invalid(f"input {name!r}: expected something in each row, found {found}")
    if not _finite(array):
        raise invalid(f"input {name!r}: expected finite numbers, found NaN or infinity")


def _finite(array: np.ndarray) -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _images(value: bytes) -> list[bytes]:
    """What of a text may be an image: all of it, or the texts of a tf.Example."""
    if not value.startswith(b"\x0a"):
        return [value]
    try:
        features = tf.train.Example.FromString(value).features.feature
    except DecodeError:
        return []
    return [text for feature in features.values() for text in feature.bytes_list.value]
