"""The server's process: two ports and one event loop, from the first model loaded to the last answer after SIGTERM."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import tensorflow as tf
import uvicorn

from kcnn.errors import UserError
from kcnn.serving.server.models import State
from kcnn.serving.server.requests import Requests
from kcnn.serving.server.rest import application
from kcnn.serving.server.rpc import Rpc
from kcnn.serving.server.settings import Settings

_IDLE_SECONDS = 60  # a connection that asks nothing is closed


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
