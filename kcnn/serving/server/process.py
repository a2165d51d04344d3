"""The server's process: two ports and one event loop, from the first model loaded to the last answer after SIGTERM."""

import asyncio
import contextlib
import functools
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kcnn.errors import UserError
from kcnn.serving.server.http1 import SLICE, BoundedHttp1
from kcnn.serving.server.log import bound_logs
from kcnn.serving.server.models import State
from kcnn.serving.server.requests import Requests
from kcnn.serving.server.rest import application
from kcnn.serving.server.rpc import Rpc
from kcnn.serving.server.settings import Settings
from kcnn.serving.server.status import StatusError
from kcnn.terminal import print_lines

_IDLE_SECONDS = 60  # a connection that asks nothing is closed, and one that takes nothing
_TURN_SECONDS = 1e-3  # that another thread may run Python before the event loop does
_FILES = 8192  # that the process may have open, connections among them
_END_SECONDS = 2  # after the drain; a thread that is still at work then is left behind


class _Timer:
    """Ends a connection, unless it is stopped before."""

    def __init__(self, connection: "Connection", seconds: float):
        self._connection, self._seconds = connection, seconds
        self._running: asyncio.TimerHandle | None = None

    def start(self) -> None:
        if self._running is None:
            self._running = self._connection.loop.call_later(self._seconds, self._connection.transport.abort)

    def stop(self) -> None:
        if self._running is not None:
            self._running.cancel()
            self._running = None


class Connection(H11Protocol):
    """A connection of uvicorn with limits: on their number, and on the time to send a request or to take an answer.

    Args:
        most: connections at once; further ones are closed.
        request_seconds: what a request has to come in.
    """

    def __init__(self, *args: Any, most: int, request_seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.conn = BoundedHttp1()
        self._most = most
        self._request, self._answer = _Timer(self, request_seconds), _Timer(self, _IDLE_SECONDS)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._request.start()
        if len(self.connections) > self._most:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._request.start()
        for start in range(0, len(data), SLICE):
            if not self.transport.is_closing():
                super().data_received(data[start : start + SLICE])
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):  # the request is all there
            self._request.stop()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer.stop()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.transport.abort()  # closing alone would keep what the client has not taken

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
            if self.cycle is not None:  # whoever was about to answer comes too late
                self.cycle.disconnected = True
        else:  # the mistake comes after the answer
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request.stop()
        self._answer.stop()
        super().connection_lost(exc)


def _connections() -> int:
    """Raise the limit of open files to _FILES, and return how many connections a protocol may have: a third."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return min(max(soft, most), _FILES) // 3


class _Http(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone: `_serve` takes them for both servers."""
        yield


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; requests that have begun by then are answered.

    Raises:
        UserError: a port is taken, or a model cannot be loaded.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a client that has gone must not end the server
    bound_logs()
    sys.setswitchinterval(_TURN_SECONDS)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    requests = Requests(settings)
    listener = _listen(settings)
    connections = _connections()
    rpc = Rpc(requests, connections)
    http = _Http(
        uvicorn.Config(
            application(requests),
            http=functools.partial(  # type: ignore[arg-type]
                Connection,
                most=connections,
                request_seconds=settings.rest_api_timeout_in_ms / 1000 + 1,  # a second more than the answer: 504
            ),
            log_config=None,
            log_level="error",  # what clients do wrong is no warning
            ws="none",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        )
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        stop.set()
        # Python itself waits for threads, and what runs in TensorFlow cannot be interrupted.
        last = threading.Timer(settings.drain_seconds + _END_SECONDS, os._exit, [0])
        last.daemon = True
        last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    await rpc.start()
    serving = asyncio.create_task(http.serve([listener]))
    watching = asyncio.create_task(_watch(requests, rpc, settings, listener))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, watching, stopping], return_when=asyncio.FIRST_COMPLETED)
    requests.draining = True
    watching.cancel()
    http.should_exit = True
    await asyncio.gather(serving, rpc.stop(settings.drain_seconds))
    requests.batcher.close()
    with contextlib.suppress(asyncio.CancelledError):
        await watching  # raises the error of a model


async def _watch(requests: Requests, rpc: Rpc, settings: Settings, listener: socket.socket) -> None:
    """Load the models, print where they are served, and follow their folders."""
    await requests.models.poll()
    for name, model in requests.models.served.items():
        try:
            found = requests.models.status(name)
        except StatusError as error:
            raise UserError(f"{str(model.base_path)!r}: {error.message}") from None
        for one in found:
            if one.state is State.END:
                raise UserError(f"the model in {str(one.path)!r} cannot be loaded: {one.error}")
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print_lines(f"Serving {', '.join(requests.models.served)}")
    print_lines(f"  page and REST API: http://{host}:{listener.getsockname()[1]}/")
    print_lines(f"  gRPC:              {host}:{rpc.port}")
    await requests.models.watch()


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol named asyncio sends answers at once; else each may wait for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.rest_api_port))
        listener.listen(1024)
        return listener
    except OSError as error:
        listener.close()
        where = f"{settings.host}, port {settings.rest_api_port}"
        raise UserError(f"--rest_api_port: cannot listen on {where}: {error.strerror}") from error
