"""HTTP connections: how many there may be, and how long they may keep the server waiting."""

import asyncio
import contextlib
import logging

import pytest
from served_application import served

from kcnn.serving.server import process

ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def large(scope, receive, send):
    """Answer more than the system keeps for a client that does not read."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(2**26)})


async def small(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def until(holds):
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("asked", [ASK, ASK * 5], ids=["one", "pipelined"])
def test_an_answer_that_is_never_taken_is_dropped(asked, monkeypatch):
    """Expect that whatever else the client asks."""
    monkeypatch.setattr(process, "_IDLE_SECONDS", 1)

    async def ask():
        async with served(large, idle=60 if asked != ASK else 1) as (address, connections):
            reader, writer = await asyncio.open_connection(*address, limit=2**10)
            writer.write(asked)
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            assert len(connections) == 1
            await until(lambda: not connections)
            writer.close()

    asyncio.run(ask())


def test_no_more_connections_than_there_may_be():
    async def ask():
        async with served(small, most=3) as (address, connections):
            opened = [await asyncio.open_connection(*address) for _ in range(10)]
            await until(lambda: len(connections) == 3)
            answers = []
            for reader, writer in opened:
                with contextlib.suppress(ConnectionError):
                    writer.write(ASK)
                    await writer.drain()
                    answers.append((await reader.readline())[:12])
            assert [answer for answer in answers if answer] == [b"HTTP/1.1 200"] * 3
            for _, writer in opened:
                writer.close()
            await until(lambda: not connections)
            reader, writer = await asyncio.open_connection(*address)  # there is room again
            writer.write(ASK)
            assert (await reader.readline())[:12] == b"HTTP/1.1 200"
            writer.close()

    asyncio.run(ask())


def test_nonsense_behind_an_answer_closes_the_connection_and_says_nothing(caplog):
    async def ask():
        async with served(small) as (address, connections):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(ASK[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
            assert (await reader.readline())[:12] == b"HTTP/1.1 200"
            writer.write(b"zz\r\n")
            await until(lambda: not connections)
            writer.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(ask())
    assert caplog.records == []


def test_a_mistake_before_the_answer_begins_has_the_only_answer():
    """Send what is no HTTP together with a request that is answered at once: the answer to it comes too late."""
    raised = []

    async def prompt(scope, receive, send):
        try:
            await small(scope, receive, send)
        except Exception as error:
            raised.append(error)

    async def ask():
        async with served(prompt) as (address, _):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(ASK[:-2] + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
            answer = await reader.read()
            writer.close()
            return answer

    answer = asyncio.run(ask())
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1
    assert raised == []


async def whole(scope, receive, send):
    """Answer with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b"%d" % size})


def sent(content):
    """Return the answer to a request of these bytes."""

    async def ask():
        async with served(whole) as (address, _), asyncio.timeout(20):
            reader, writer = await asyncio.open_connection(*address)
            with contextlib.suppress(ConnectionError):
                writer.write(content)
                await writer.drain()
                writer.write_eof()
                return await reader.read()
            return b""

    return asyncio.run(ask())


CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("count", "size", "taken"),
    [(250, 1, True), (1000, 1, False), (100_000, 1, False), (1000, 100, False), (1000, 400, True), (300, 4096, True)],
)
def test_a_body_of_very_many_small_chunks_is_cut_off(count, size, taken):
    answer = sent(CHUNKED + (b"%x\r\n" % size + b"x" * size + b"\r\n") * count + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200") == taken
    if taken:
        assert answer.endswith(b"%d\r\n0\r\n\r\n" % (count * size)) or answer.endswith(b"%d" % (count * size))


@pytest.mark.parametrize("line", [b"a:\r\n", b"a: b\r\n c\r\n"])
def test_headers_of_very_many_lines_are_refused(line):
    head = b"GET / HTTP/1.1\r\nHost: x\r\n"
    assert sent(head + line * 100 + b"\r\n").startswith(b"HTTP/1.1 200")
    assert not sent(head + line * 50_000 + b"\r\n").startswith(b"HTTP/1.1 200")
    assert not sent(CHUNKED + b"1\r\nx\r\n0\r\n" + line * 50_000 + b"\r\n").startswith(b"HTTP/1.1 200")
