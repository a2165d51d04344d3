"""The metrics that Prometheus reads from the server."""

import asyncio
import contextlib
import time
from collections.abc import Iterator

from grpc import StatusCode
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kcnn.serving.server.status import StatusError

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The figures of one server; names of models come from its settings, never from a request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        by = ("model", "method", "protocol")
        self._requests = Counter(
            "kcnn_requests", "Requests answered, by gRPC's name of the outcome.", (*by, "code"), registry=self.registry
        )
        self._seconds = Histogram(
            "kcnn_request_seconds", "From a request's arrival to its answer.", by, buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.queue_rows = Gauge("kcnn_queue_rows", "Rows that wait for a batch.", registry=self.registry)
        self.held_bytes = Gauge("kcnn_held_bytes", "Bytes of the requests in memory.", registry=self.registry)
        self.batch_rows = Histogram(
            "kcnn_batch_rows", "Rows in a batch.", ("model",), buckets=_ROWS, registry=self.registry
        )
        self.batch_seconds = Histogram(
            "kcnn_batch_seconds", "The model's time for a batch.", ("model",), buckets=_SECONDS, registry=self.registry
        )
        self.version = Gauge(
            "kcnn_model_version", "1 for each version that is served.", ("model", "version"), registry=self.registry
        )

    @contextlib.contextmanager
    def unread(self, method: str, protocol: str) -> Iterator[None]:
        """Count a request, of whatever model, that is not read to its end within the context."""
        try:
            yield
        except BaseException as error:
            self._requests.labels("", method, protocol, _code(error).name).inc()
            raise

    @contextlib.contextmanager
    def request(self, model: str, method: str, protocol: str) -> Iterator[None]:
        """Count a request and its time within the context."""
        start, code = time.perf_counter(), StatusCode.OK
        try:
            yield
        except BaseException as error:
            code = _code(error)
            raise
        finally:
            self._requests.labels(model, method, protocol, code.name).inc()
            self._seconds.labels(model, method, protocol).observe(time.perf_counter() - start)


def _code(error: BaseException) -> StatusCode:
    if isinstance(error, StatusError):
        return error.code
    # gRPC cancels when the client has gone, or its deadline is over.
    return StatusCode.CANCELLED if isinstance(error, asyncio.CancelledError) else StatusCode.INTERNAL
