"""gRPC connections: how many there may be, and how long they may stay for nothing; health watchers."""

import asyncio
import contextlib
import gc
import struct

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_service_pb2_grpc

from kcnn.serving.server import health, rpc
from kcnn.serving.server.requests import Requests
from kcnn.serving.server.settings import Settings
from kcnn.serving.server.status import StatusError

CHECK = health_pb2.HealthCheckRequest()
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@contextlib.asynccontextmanager
async def running(connections=100, **flags):
    """Give the requests of a server of no models, and its port."""
    requests = Requests(Settings((), port=0, **flags))
    server = rpc.Rpc(requests, connections)
    await server.start()
    yield requests, server.port
    await server.stop(0)


def own_channel(port):
    """Return a channel with a connection of its own."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])


def health_stub(port):
    return health_pb2_grpc.HealthStub(own_channel(port))


def frame(kind, flags, stream, content=b""):
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def field(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def call_without_message(method, settings=b""):
    """Return the bytes with which a client begins a call."""
    names = b"\x83\x86" + field(b":path", method) + field(b":authority", b"x")
    names += field(b"content-type", b"application/grpc") + field(b"te", b"trailers")
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, settings) + frame(1, 4, 1, names)


def watch_without_a_window():
    """Return the bytes of a client that asks to watch, and lets the server send nothing."""
    no_window = struct.pack(">HI", 4, 0)
    return call_without_message(b"/grpc.health.v1.Health/Watch", no_window) + frame(0, 1, 1, bytes(5))


async def closed(reader):
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionResetError):
            await reader.read()


def test_no_more_connections_than_there_may_be():
    """Expect that of connections that say nothing; when they have gone there is room again."""

    async def ask():
        async with running(connections=5) as (_, port):
            opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
            waiting = {asyncio.create_task(closed(reader)) for reader, _ in opened}
            while len(waiting) > 5:
                _, waiting = await asyncio.wait(waiting, timeout=20, return_when=asyncio.FIRST_COMPLETED)
            _, waiting = await asyncio.wait(waiting, timeout=0.5)
            assert len(waiting) == 5
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await health_stub(port).Check(CHECK, timeout=30)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            for _, writer in opened:
                writer.close()
            answer = await health_stub(port).Check(CHECK, timeout=30, wait_for_ready=True)
            assert answer.status == SERVING

    asyncio.run(ask())


@pytest.mark.parametrize("begun", [b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0), watch_without_a_window()])
def test_connections_that_ask_nothing_or_take_nothing_are_closed(begun, monkeypatch):
    monkeypatch.setattr(rpc, "_HELLO_SECONDS", 1)
    monkeypatch.setattr(rpc, "_IDLE_SECONDS", 1)
    monkeypatch.setattr(rpc, "_AGE_SECONDS", 1)
    monkeypatch.setattr(health, "_WATCH_SECONDS", 1)

    async def ask():
        async with running(rest_api_timeout_in_ms=300) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            await closed(reader)
            writer.close()

    asyncio.run(ask())


def test_no_more_calls_than_there_may_be():
    async def ask():
        async with running(connections=5) as (_, port):
            stub = health_stub(port)
            watching = [stub.Watch(CHECK) for _ in range(5)]
            assert [(await call.read()).status for call in watching] == [SERVING] * 5
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.Check(CHECK, timeout=30)
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    asyncio.run(ask())


def test_calls_that_send_nothing_do_not_keep_the_others_waiting(monkeypatch):
    """Expect also that a slow message arrives where there is room."""
    monkeypatch.setattr(rpc, "_TURN_SECONDS", 0.1)

    async def ask():
        async with running(connections=2000) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            message = frame(0, 0, 1, bytes(2)), frame(0, 1, 1, bytes(3))
            writer.write(call_without_message(b"/grpc.health.v1.Health/Check") + message[0])
            await asyncio.sleep(0.5)
            writer.write(message[1])
            await asyncio.wait_for(reader.readuntil(b"\0\0\0\0\2\10\1"), 20)  # the answer: SERVING
            writer.close()
            channels = [own_channel(port) for _ in range(21)]
            method = "/tensorflow.serving.PredictionService/Predict"
            silent = [channel.stream_unary(method)() for channel in channels[1:] for _ in range(50)]
            await asyncio.gather(*(call.wait_for_connection() for call in silent))
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channels[0].unary_unary(method)(b"", timeout=20)
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT  # no model is named
            done = {await call.code() for call in silent if call.done()}
            assert done == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            for channel in channels:
                await channel.close()

    asyncio.run(ask())


def test_watchers_hear_each_change_whatever_the_others_do(monkeypatch):
    """Expect that of those that stay while others leave, or do not read; and of those that came first."""
    monkeypatch.setattr(health, "_LOOK_SECONDS", 0.05)

    async def ask():
        async with running() as (requests, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(watch_without_a_window())
            stub = health_stub(port)
            calls = [stub.Watch(CHECK, timeout=30) for _ in range(3)]
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="nope"), timeout=30)
            assert [(await call.read()).status for call in calls] == [SERVING] * 3
            assert (await unknown.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            calls.pop(1).cancel()
            requests.draining = True
            assert [(await call.read()).status for call in calls] == [NOT_SERVING] * 2
            assert [await call.read() for call in calls] == [grpc.aio.EOF] * 2  # the server ends without them
            writer.close()

    asyncio.run(ask())


def test_watches_are_few_and_end(monkeypatch):
    monkeypatch.setattr(health, "_WATCHERS", 3)
    monkeypatch.setattr(health, "_WATCH_SECONDS", 1)

    async def ask():
        async with running() as (_, port):
            stub = health_stub(port)
            calls = [stub.Watch(CHECK, timeout=30) for _ in range(3)]
            assert [(await call.read()).status for call in calls] == [SERVING] * 3
            with pytest.raises(grpc.aio.AioRpcError, match="use Check") as error:
                await stub.Watch(CHECK, timeout=30).read()
            assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await stub.Check(CHECK, timeout=30)).status == SERVING
            assert [await call.read() for call in calls] == [grpc.aio.EOF] * 3
            assert [await call.code() for call in calls] == [grpc.StatusCode.OK] * 3
            assert (await stub.Watch(CHECK, timeout=30).read()).status == SERVING

    asyncio.run(ask())


def test_a_refused_request_leaves_no_garbage():
    """It would keep the message of the request in memory until garbage is collected, seconds and gigabytes later."""
    asked = predict_pb2.PredictRequest(model_spec=model_pb2.ModelSpec(name="none"))

    async def refused():
        async with running() as (_, port), own_channel(port) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
                await prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(asked)
        return [error for error in gc.get_objects() if isinstance(error, StatusError)]

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(refused()) == []
    finally:
        gc.enable()
