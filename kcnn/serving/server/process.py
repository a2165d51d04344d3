"""The server's process: two ports and one event loop, from the first model loaded to the last answer after SIGTERM."""

import asyncio
import contextlib
import functools
import signal
import socket
from collections.abc import Iterator
from typing import Any

import h11
import tensorflow as tf
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kcnn.errors import UserError
from kcnn.serving.server.models import State
from kcnn.serving.server.requests import Requests
from kcnn.serving.server.rest import application
from kcnn.serving.server.rpc import Rpc
from kcnn.serving.server.settings import Settings

_IDLE_SECONDS = 60  # a connection that asks nothing is closed


class Connection(H11Protocol):
    """uvicorn's, which on its own waits for ever for a request to come in, and for an answer to be taken."""

    def __init__(self, *args: Any, request_seconds: float, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._request_seconds = request_seconds
        self._waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._waiting is None:
            self._wait()
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):  # the request is all there
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.transport.abort()  # closing alone would keep what the client has not taken

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self._request_seconds, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None


class _Http(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are for both servers: they are taken below."""
        yield


def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT; what has begun by then is answered.

    Raises:
        UserError: a port is taken, or a model cannot be loaded.
    """
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a client that has gone must not end the server
    tf.get_logger().setLevel("ERROR")  # of what is deprecated, not of what is wrong
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    requests = Requests(settings)
    listener = _listen(settings)
    rpc = Rpc(requests)
    http = _Http(
        uvicorn.Config(
            application(requests),
            # A second more than the answer that says so: 504.
            http=functools.partial(Connection, request_seconds=settings.rest_api_timeout_in_ms / 1000 + 1),  # type: ignore[arg-type]
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
        )
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await rpc.start()
    serving = asyncio.create_task(http.serve([listener]))
    watching = asyncio.create_task(_watch(requests, rpc, settings, listener))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, watching, stopping], return_when=asyncio.FIRST_COMPLETED)
    requests.draining = True
    watching.cancel()
    http.should_exit = True
    await rpc.say(serving=False)
    await asyncio.gather(serving, rpc.stop(settings.drain_seconds))
    requests.batcher.close()
    with contextlib.suppress(asyncio.CancelledError):
        await watching  # raises what was wrong with a model


async def _watch(requests: Requests, rpc: Rpc, settings: Settings, listener: socket.socket) -> None:
    """Loads the models, says where they are served, and follows their folders."""
    await requests.models.poll()
    for name in requests.models.served:
        for one in requests.models.status(name):
            if one.state is State.END:
                raise UserError(f"the model in {str(one.path)!r} cannot be loaded: {one.error}")
    await rpc.say(serving=True)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    print(f"Serving {', '.join(requests.models.served)}", flush=True)
    print(f"  page and REST API: http://{host}:{listener.getsockname()[1]}/", flush=True)
    print(f"  gRPC:              {host}:{rpc.port}", flush=True)
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
