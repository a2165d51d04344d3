"""An application behind the HTTP connections of the server, in the process of the test."""

import asyncio
import contextlib
import functools
import socket

import uvicorn

from kcnn.serving.server.process import Connection


@contextlib.asynccontextmanager
async def served(application, *, most=100, idle=60):
    """Serve an ASGI application within the context, by HTTP in this process; give its address and connections."""
    listener = socket.create_server(("127.0.0.1", 0))
    connection = functools.partial(Connection, most=most, request_seconds=30)
    config = uvicorn.Config(
        application, http=connection, lifespan="off", timeout_keep_alive=idle, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    yield listener.getsockname(), server.server_state.connections
    server.should_exit = True
    await serving
