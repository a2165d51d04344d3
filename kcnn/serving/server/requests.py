"""The work that HTTP and gRPC share: limit a request, find its model and signature, check its inputs, answer."""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from grpc import StatusCode

from kcnn.data.input_pipeline.headers import DecodingCost
from kcnn.data.input_pipeline.limits import MAX_PIXELS, REQUEST_NANOSECONDS, REQUEST_PIXELS
from kcnn.errors import nearest, shortened
from kcnn.serving.server.batching import ROW_WORK, Arrays, Batcher
from kcnn.serving.server.image_headers import field_budget, is_base64_of_image, text_cost
from kcnn.serving.server.json_pieces import PIECE
from kcnn.serving.server.memory import trim_memory
from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.models import Models, Servable
from kcnn.serving.server.runtime import CLASSIFY, DEFAULT_SIGNATURE, ArraySpec, Signature
from kcnn.serving.server.settings import Settings
from kcnn.serving.server.status import StatusError, invalid

REGRESS = "Regress: the models here are classifiers; ask Classify or Predict"
_AT_ONCE = 256 * 2**10  # bytes of a request that are read in a few milliseconds
_ONE_BY_ONE = 8 * 2**20  # bytes whose reading has steps so long that only one thread may do it
_MARK = 100  # bytes that take as long as the building of a value
_WALK = 8  # how many times longer the walk through an image takes than to parse its bytes
_READERS = 2  # more would only wait for each other
_TRIM = 2**26  # bytes of requests at once, after which freed memory is worth giving back

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class ClassifyExamples:
    """Serialized tf.Examples of a request, each made when it is taken.

    Attributes:
        context: serialized features that stand in each.
    """

    count: int
    each: Iterable[bytes]
    context: bytes = b""


class Requests:
    """All that requests share: the models, the queue, the limits, the figures.

    Attributes:
        draining: whether the server is about to end, and only answers the requests that it has begun.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.metrics = Metrics()
        self.models = Models(settings, self.metrics)
        self.batcher = Batcher(settings, self.metrics)
        self.readers = ThreadPoolExecutor(_READERS, "read")
        self.builders = ThreadPoolExecutor(1, "build")
        self.draining = False
        self._held = self._most_held = 0

    @property
    def ready(self) -> bool:
        """True when requests can be answered.

        They cannot while each thread is at a batch for longer than a request may take.
        """
        stuck = self.batcher.stuck_seconds > self.settings.rest_api_timeout_in_ms / 1000
        return not self.draining and not stuck and self.models.ready()

    async def aside(self, size: int, work: Callable[..., T], *arguments: Any) -> T:
        """Return the result of work on so many bytes; large work runs in a thread, while others are answered."""
        if size <= _AT_ONCE:
            return work(*arguments)
        threads = self.readers if size <= _ONE_BY_ONE else self.builders
        return await asyncio.get_running_loop().run_in_executor(threads, work, *arguments)

    def model_label(self, name: str) -> str:
        """Return the model's name for the metrics; "" for names that a client made up."""
        return name if name in self.models.served else ""

    @contextlib.contextmanager
    def hold(self, client: str = "") -> Iterator["Held"]:
        """Count the bytes of a client's request while it is in memory."""
        held = Held(self, client)
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
        self._most_held = max(self._most_held, self._held)
        if not self._held and self._most_held >= _TRIM:
            self._most_held = 0
            self.readers.submit(trim_memory)
        self.metrics.held_bytes.set(self._held)

    @contextlib.contextmanager
    def lease(
        self, name: str, version: int | None, label: str | None, signature: str
    ) -> Iterator[tuple[Servable, Signature]]:
        """Give the version and the signature that answer; they stay loaded within the context.

        Raises:
            StatusError: there are none of these names.
        """
        servable = self.models.find(name, version, label)
        with servable.in_use():
            known = servable.model.signatures
            wanted = signature or DEFAULT_SIGNATURE
            if wanted not in known:
                hint = nearest(wanted, sorted(known))
                raise invalid(f'Serving signature name: "{shortened(wanted)}" not found in signature def; {hint}')
            yield servable, known[wanted]

    async def answer(self, servable: Servable, signature: Signature, inputs: Arrays, held: "Held") -> Arrays:
        """Return the outputs for the inputs.

        Raises:
            StatusError: INVALID_ARGUMENT: the inputs are wrong; RESOURCE_EXHAUSTED: too much waits already; or what the
                model says.
        """
        weight = _WALK if any(array.dtype == object for array in inputs.values()) else 1
        works = await held.aside(self._check, signature, inputs, weight=weight)
        outputs = await self.batcher.run(servable, signature, inputs, works, held.client)
        for name, array in outputs.items():
            if not _finite(array):
                raise invalid(f"output {name!r} is not finite: the inputs are far outside of what the model takes")
        return outputs

    async def classify(
        self, servable: Servable, signature: Signature, examples: ClassifyExamples, held: "Held"
    ) -> list[list[tuple[str, float]]]:
        """Return each example's classes with their scores, in the order of the model.

        Raises:
            StatusError: as `answer`; and for a signature that does not classify, or an example without an image.
        """
        if signature.method != CLASSIFY:
            known = [one.name for one in servable.model.signatures.values() if one.method == CLASSIFY]
            raise invalid(
                f"Expected classification signature method_name to be {CLASSIFY}. Was: {signature.method}; "
                f"signature_name that does: {', '.join(known) or 'none of this model'}"
            )
        batch = await held.aside(self._batch, signature, examples)
        outputs = await self.answer(servable, signature, dict.fromkeys(signature.inputs, batch), held)
        scores = outputs.get("scores")
        classes = outputs.get("classes")
        found = []
        for row in range(examples.count):
            names = [name.decode("utf-8", "replace") for name in classes[row]] if classes is not None else None
            if names and not any(names):  # what a classifier of this project says of a row that it cannot read
                raise invalid(
                    f"example {row}: no image that can be read: expected its bytes in the feature image/encoded, which "
                    'JSON holds as {"b64": "..."}'
                )
            values = scores[row].tolist() if scores is not None else [0.0] * len(names or [])
            found.append(list(zip(names or [""] * len(values), values, strict=True)))
        return found

    def check_rows(self, signature: Signature, count: int) -> None:
        """Raise StatusError INVALID_ARGUMENT for too many rows, before any of them is read."""
        if signature.batched and count > self.settings.queue_rows:
            raise invalid(f"{count} rows in a request: expected at most {self.settings.queue_rows}")

    def _batch(self, signature: Signature, examples: ClassifyExamples) -> np.ndarray:
        """Return the examples, each with the context in it."""
        if not examples.count:
            raise invalid("Input is empty: expected one example or more")
        self.check_rows(signature, examples.count)
        size, most = len(examples.context), self.settings.max_request_bytes
        if size * examples.count > most:
            raise invalid(f"a context of {size} bytes for {examples.count} examples: expected at most {most} in all")
        batch = np.empty(examples.count, dtype=object)
        # The bytes of two messages, one after the other, are the message of both merged.
        batch[:] = [examples.context + one for one in examples.each]
        return batch

    def _check(self, signature: Signature, inputs: Arrays) -> list[float]:
        """Check the inputs and return the nanoseconds that each row takes, about."""
        check_names(signature, inputs)
        for name, array in inputs.items():
            _check_input(name, array, signature.inputs[name])
        rows = 1
        if signature.batched:
            counts = {name: len(array) for name, array in inputs.items()}
            rows = max(counts.values())
            if min(counts.values()) != rows:
                raise invalid(f"inputs have different numbers of rows: {counts}")
            self.check_rows(signature, rows)
        works, steps, costs = np.full(rows, ROW_WORK, float), field_budget(), list[DecodingCost]()
        for name, array in inputs.items():
            if array.dtype == object:
                found = list(self._check_images(name, array, signature.inputs[name].binary, steps))
                costs += found
                times = np.array([cost.nanoseconds for cost in found], float)
                works += times.reshape(rows, -1).sum(axis=1) if rows else 0
        self._check_sum(costs)
        return works.tolist()

    def _check_images(self, name: str, array: np.ndarray, binary: bool, steps: Iterator[int]) -> Iterator[DecodingCost]:
        """Check the images of an input, and yield what it takes to decode each."""
        most = self.settings.max_pixels
        for row, value in enumerate(array.ravel()):
            if binary and is_base64_of_image(value, steps):
                raise invalid(
                    f"input {name!r}, row {row}: an image in base64: expected its bytes, which JSON holds as "
                    '{"b64": "..."}, encoded once'
                )
            cost = text_cost(value, steps)
            if cost.excess:
                raise invalid(f"input {name!r}, row {row}: an image of {cost.excess}")
            if cost.pixels > most:
                raise invalid(f"input {name!r}, row {row}: an image of {cost.pixels} pixels: expected at most {most}")
            yield cost

    def _check_sum(self, costs: Sequence[DecodingCost]) -> None:
        """Raise StatusError INVALID_ARGUMENT where all images of a request together take too much."""
        largest = max(self.settings.max_pixels, MAX_PIXELS)
        for what, found, most in (
            ("pixels", sum(cost.pixels for cost in costs), largest * REQUEST_PIXELS),
            ("nanoseconds to decode", sum(cost.nanoseconds for cost in costs), largest * REQUEST_NANOSECONDS),
        ):
            if found > most:
                raise invalid(
                    f"images of {found:,} {what} in a request: expected at most {most:,}; send them in several requests"
                )


def check_names(signature: Signature, names: Iterable[str]) -> None:
    """Raise StatusError INVALID_ARGUMENT unless these are the names of the signature's inputs."""
    given = set(names)
    for name in signature.inputs:
        if name not in given:
            raise invalid(f"Missing named input: {name}; signature {signature.name!r} takes {_takes(signature)}")
    for name in given - signature.inputs.keys():
        raise invalid(f"input {shortened(name)!r} is unknown; signature {signature.name!r} takes {_takes(signature)}")


class Held:
    """The bytes of one request, and the work that they make.

    Attributes:
        client: the address that asks.
        marks: about how many values the bytes stand for: the structural characters of JSON, or the fields of a message.
    """

    def __init__(self, requests: Requests, client: str = ""):
        self._requests, self.client = requests, client
        self.size = self.marks = 0

    def add(self, size: int) -> None:
        """Add bytes; raise StatusError RESOURCE_EXHAUSTED when all requests together hold too many."""
        self._requests._hold(size)
        self.size += size

    async def aside(self, work: Callable[..., T], *arguments: Any, weight: int = 1) -> T:
        """Return the result of some work. Large work runs in a thread, so that others are answered meanwhile.

        Work of very many values has a thread of its own: it must not keep the large files of others waiting.

        `weight` says how many times more work a byte makes than to parse it.
        """
        if self.marks > PIECE:
            return await asyncio.get_running_loop().run_in_executor(self._requests.builders, work, *arguments)
        return await self._requests.aside(weight * (self.size + _MARK * self.marks), work, *arguments)


def _takes(signature: Signature) -> str:
    return ", ".join(f"{name!r}, {_describe(spec)}" for name, spec in signature.inputs.items()) or "no input"


def _describe(spec: ArraySpec) -> str:
    kind = "string" if spec.dtype == object else spec.dtype.name
    sizes = "..." if spec.shape is None else ", ".join("?" if size is None else str(size) for size in spec.shape)
    return f"{kind} [{sizes}]"


def _check_input(name: str, array: np.ndarray, spec: ArraySpec) -> None:
    found = _describe(ArraySpec(array.dtype, array.shape))
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
