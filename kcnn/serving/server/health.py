"""gRPC's health service: whether requests can be answered.

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md

The library's own service is not used. It keeps watchers for ever; one that does not read keeps the others, and the end
of the server, waiting; and when one leaves, the others hear nothing any more.
"""

import asyncio
import contextlib
from typing import Any

from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

from kcnn.serving.server.requests import Requests
from kcnn.serving.server.status import StatusError

SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")
_WATCHERS = 256  # at once
_WATCH_SECONDS = 60  # as long as an idle connection; a watcher then asks again
_LOOK_SECONDS = 1.0


class Health(health_pb2_grpc.HealthServicer):
    """The service; it says what /readyz says."""

    def __init__(self, requests: Requests):
        self._requests = requests
        self._watchers = 0

    def _state(self, service: str) -> Any:
        if service not in SERVICES:
            return HealthCheckResponse.SERVICE_UNKNOWN
        return HealthCheckResponse.SERVING if self._requests.ready else HealthCheckResponse.NOT_SERVING

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> HealthCheckResponse:
        """Return the state now."""
        state = self._state(request.service)
        if state == HealthCheckResponse.SERVICE_UNKNOWN:
            raise StatusError(StatusCode.NOT_FOUND, f"unknown service: expected one of {', '.join(SERVICES[1:])}")
        return HealthCheckResponse(status=state)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Send the state, and each other state that follows, until the watch or the server ends."""
        if self._watchers >= _WATCHERS:
            raise StatusError(StatusCode.RESOURCE_EXHAUSTED, f"{_WATCHERS} clients watch already: use Check")
        self._watchers += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_SECONDS):
                    await self._tell(request.service, context)
        finally:
            self._watchers -= 1

    async def _tell(self, service: str, context: Any) -> None:
        told = None
        while True:
            ending, state = self._requests.draining, self._state(service)
            if state != told:
                await context.write(HealthCheckResponse(status=state))
                told = state
            if ending:
                return
            await asyncio.sleep(_LOOK_SECONDS)
