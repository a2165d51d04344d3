"""The server under faults: broken requests and images, too many requests, versions that come and go, its own end."""

import asyncio
import concurrent.futures
import contextlib
import json
import random
import re
import shutil
import signal
import socket
import sys
import threading
import time
from collections import Counter

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_process import OTHER, TINY, Client, b64, other_model, publish, serve
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from kcnn.serving.server.requests import Requests
from kcnn.serving.server.rpc import Rpc
from kcnn.serving.server.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def mutated(content, chance):
    """Return the bytes with a few of them changed, lost, doubled or moved."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4, 16])):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.choice([1, 1, 2, 8, 64]))
        kind = chance.randrange(6)
        if kind == 0:
            content[start:end] = chance.randbytes(end - start)
        elif kind == 1:
            del content[start:end]
        elif kind == 2:
            content[start:start] = content[start:end]
        elif kind == 3:
            content[start:end] = chance.choice(
                [b"\0", b"\xff", b"9" * 30, b"-1", b"[", b'"', b"}", b"\xff\xff\xff\xff"]
            )
        elif kind == 4:
            del content[start:]
        elif start < len(content):
            content[start] ^= 1 << chance.randrange(8)
    return bytes(content)


@pytest.fixture(scope="module")
def tiny(export_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "tiny"
    folder.mkdir()
    publish(export_dir, folder, 1)
    with serve(folder.parent, "tiny", f"--model_base_path={folder}", "--file_system_poll_wait_seconds=0.1") as running:
        running.folder = folder
        yield running
        assert "Traceback" not in running.output()


@pytest.fixture(
    scope="module",
    params=[1_000, pytest.param(10_000, marks=pytest.mark.slow)],
)
def times(request):
    return request.param


def test_mutated_images(tiny, times, pictures):
    chance, client, outcomes = random.Random(1), Client(tiny), Counter()
    for _ in range(times // 10):
        # A sound one is among them, and must not suffer.
        images = [mutated(chance.choice(pictures), chance) for _ in range(9)] + [pictures[0]]
        status, answer = client.ask(TINY, {"instances": list(map(b64, images))})
        if status == 200:
            said = [row["status"] for row in answer["predictions"]]
            assert said[-1] == ""
            for row in answer["predictions"]:
                assert sum(row["probabilities"]) == pytest.approx(0 if row["status"] else 1, abs=1e-3)
            outcomes.update(bool(one) for one in said)
        else:  # a size beyond the limit
            assert status == 400
            assert "pixels" in answer["error"]
            outcomes["refused"] += 1
    assert outcomes[True] > times / 10
    assert outcomes[False] > times / 10
    assert client.ask("/healthz")[0] == 200


def test_mutated_requests(tiny, times, pictures):
    chance, client, outcomes = random.Random(2), Client(tiny), Counter()
    pixels = np.zeros((1, 3, 4, 3), int).tolist()
    bodies = [
        (TINY, {"signature_name": "serving_default", "instances": [b64(pictures[2])]}),
        (TINY, {"inputs": {"image_bytes": [b64(pictures[2]), b64(b"text")]}}),
        (TINY, {"signature_name": "images", "inputs": pixels}),
        ("/v1/models/tiny:classify", {"signature_name": "classify", "examples": [{"image/encoded": b64(pictures[2])}]}),
    ]
    for _ in range(times):
        path, body = chance.choice(bodies)
        content = mutated(json.dumps(body).encode(), chance)
        status, answer = client.ask(path, content)
        assert status == 200 or 400 <= status < 500, (content, answer)
        if status != 200:
            assert answer.keys() == {"error"}
            assert answer["error"]
        outcomes[status] += 1
    assert outcomes[400] > times / 4
    assert client.ask("/healthz")[0] == 200


def test_mutated_calls(tiny, times, pictures):
    chance, outcomes = random.Random(3), Counter()
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(pictures[2])
    calls = []
    for signature, key, value in [
        ("serving_default", "image_bytes", [pictures[2], pictures[0]]),
        ("images", "images", np.zeros((1, 3, 4, 3), np.uint8)),
        ("images_float", "images", np.zeros((1, 3, 4, 3), np.float32)),
        ("predict_tf_example", "examples", [example.SerializeToString()]),
        ("embed", "image_bytes", [pictures[2]]),
    ]:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "tiny", signature
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        calls.append(request.SerializeToString())
    with grpc.insecure_channel(f"127.0.0.1:{tiny.grpc}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")  # bytes as they are
        for _ in range(times):
            content = mutated(chance.choice(calls), chance)
            try:
                predict_pb2.PredictResponse.FromString(call(content, timeout=30))
                outcomes["OK"] += 1
            except grpc.RpcError as error:
                outcomes[error.code().name] += 1
    assert set(outcomes) <= {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}
    assert outcomes["OK"] > times / 20
    assert outcomes["INVALID_ARGUMENT"] > times / 20
    assert Client(tiny).ask("/healthz")[0] == 200


def test_mutated_http(tiny, times):
    chance = random.Random(4)
    body = b'{"instances": ["x"]}'
    sound = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
    sound = sound % (TINY.encode(), len(body), body)
    for _ in range(times // 5):
        with socket.create_connection(("127.0.0.1", tiny.rest), timeout=30) as connection:
            first = b""
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # it does not read on what is no HTTP
                connection.sendall(mutated(sound, chance))
                connection.shutdown(socket.SHUT_WR)
                first = connection.makefile("rb").readline()
        if first:  # else the connection was closed on half a request
            status = int(first.split()[1])
            assert status == 200 or 400 <= status < 500, first
    assert Client(tiny).ask("/healthz")[0] == 200


def test_a_request_that_takes_long_to_read_keeps_nobody_waiting(tiny, pictures):
    numbers, image = b"1," * 1_000_000 + b"1", json.dumps(b64(pictures[0])).encode()
    body = b'{"signature_name": "classify", "examples": [{"image/encoded": %s, "x": [%s]}]}' % (image, numbers)
    client, waited = Client(tiny), []
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        start = time.monotonic()
        asked = threads.submit(Client(tiny).ask, "/v1/models/tiny:classify", body)
        while not asked.done():
            begun = time.monotonic()
            assert client.ask("/healthz")[0] == 200
            waited.append(time.monotonic() - begun)
        assert asked.result()[0] == 200
    assert max(waited) < (time.monotonic() - start) / 2


@pytest.mark.slow
def test_versions_come_and_go_under_load(tiny, pictures):
    stop, outcomes = threading.Event(), Counter()
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "tiny"
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([pictures[0]]))

    def over_grpc():
        with grpc.insecure_channel(f"127.0.0.1:{tiny.grpc}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not stop.is_set():
                outcomes[stub.Predict(request, timeout=30).model_spec.version.value] += 1

    def over_http():
        client = Client(tiny)
        while not stop.is_set():
            status, answer = client.ask(TINY, {"instances": [b64(pictures[0])]})
            outcomes[status] += 1
            assert status == 200, answer

    def wait(states):
        client, deadline = Client(tiny), time.monotonic() + 60
        while time.monotonic() < deadline:
            found = client.ask("/v1/models/tiny")[1]["model_version_status"]
            if {one["version"]: one["state"] for one in found} == states:
                return
            time.sleep(0.05)
        raise AssertionError(found)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        running = [threads.submit(run) for run in (over_grpc, over_grpc, over_http, over_http)]
        try:
            publish(tiny.folder / "1", tiny.folder, 2)
            wait({"1": "END", "2": "AVAILABLE"})
            time.sleep(0.3)
            (tiny.folder / "3").mkdir()
            (tiny.folder / "3" / "saved_model.pb").write_bytes(b"broken")
            wait({"1": "END", "2": "AVAILABLE", "3": "END"})
            time.sleep(0.3)
            shutil.rmtree(tiny.folder / "3")
            (tiny.folder / "2").rename(tiny.folder / ".2")
            wait({"1": "AVAILABLE", "2": "END", "3": "END"})
            time.sleep(0.3)
        finally:
            stop.set()
        for one in running:
            one.result()  # raises what a client met
    assert set(outcomes) == {200, 1, 2}
    assert outcomes[1] > 10
    assert outcomes[2] > 10
    assert min(outcomes.values()) > 0


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Start a server of small capacity: a batch of 4 at a time, and 2 batches that wait."""
    folder = tmp_path_factory.mktemp("small")
    other_model(folder / "other" / "1")
    flags = ["--max_batch_size=4", "--max_enqueued_batches=2", "--num_batch_threads=1", "--rest_api_timeout_in_ms=3000"]
    flags.append("--drain_seconds=5")
    with serve(folder, "other", f"--model_base_path={folder / 'other'}", *flags) as running:
        client = Client(running)
        rounds, seconds = 1000, 0.0
        while seconds < 0.1:  # what takes this machine a tenth of a second
            rounds *= 2
            seconds = min(timed(client, rounds) for _ in range(3))
        running.rounds, running.seconds = rounds, seconds
        yield running
        assert "Traceback" not in running.output()


def timed(client, rounds):
    start = time.monotonic()
    assert client.ask(OTHER, slow(rounds))[0] == 200
    return time.monotonic() - start


def slow(rounds, data=""):
    return {"signature_name": "slow", "inputs": {"rounds": [rounds], "data": [data]}}


def test_one_request_among_many_waits_and_is_batched(small):
    def batches():
        return float(re.search(r'kcnn_batch_rows_count\{model="other"\} (\S+)', Client(small).ask("/metrics")[1])[1])

    before = batches()
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        statuses = list(threads.map(lambda _: Client(small).ask(OTHER, slow(5 * small.rounds))[0], range(4)))
    assert statuses == [200] * 4
    assert batches() - before == 2  # one at once, the three others, which came while it ran, together


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_ten_times_the_load_is_shed_and_leaves_nothing_behind(small, seconds):
    capacity = 4 / small.seconds  # requests a second
    workers, outcomes, latencies, memory = 40, Counter(), [], []
    body = json.dumps(slow(small.rounds, "x" * 200_000)).encode()
    end = time.monotonic() + seconds

    def work(index):
        client = Client(small)
        pause = workers / (10 * capacity)
        time.sleep(pause * index / workers)
        while (start := time.monotonic()) < end:
            status, answer = client.ask(OTHER, body)
            outcomes[status] += 1
            if status == 200:
                latencies.append(time.monotonic() - start)
            else:
                assert "queue is full" in answer["error"]
                assert client.headers["retry-after"] == "1"
            time.sleep(max(0.0, start + pause - time.monotonic()))

    def over_grpc():
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "other", "slow"
        request.inputs["rounds"].CopyFrom(tf.make_tensor_proto(np.int32([small.rounds])))
        request.inputs["data"].CopyFrom(tf.make_tensor_proto([b"x"]))
        with grpc.insecure_channel(f"127.0.0.1:{small.grpc}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while time.monotonic() < end:
                try:
                    stub.Predict(request, timeout=30)
                    outcomes["OK"] += 1
                except grpc.RpcError as error:
                    outcomes[error.code().name] += 1
                time.sleep(0.01)

    with concurrent.futures.ThreadPoolExecutor(workers + 1) as threads:
        running = [*(threads.submit(work, index) for index in range(workers)), threads.submit(over_grpc)]
        while time.monotonic() < end:
            memory.append(small.memory())
            time.sleep(0.2)
        for one in running:
            one.result()
    assert set(outcomes) <= {200, 429, "OK", "RESOURCE_EXHAUSTED"}
    assert outcomes[429] > outcomes[200]
    assert outcomes["RESOURCE_EXHAUSTED"] > 0
    assert outcomes[200] + outcomes["OK"] > 0.4 * capacity * seconds  # the processors are the clients' too
    assert np.percentile(latencies, 99) < 8 * small.seconds + 1  # those that are taken do not wait long
    third = len(memory) // 3
    assert max(memory[-third:]) < max(memory[:third]) + 32 * 2**20
    time.sleep(4 * small.seconds)
    start = time.monotonic()
    assert Client(small).ask(OTHER, slow(small.rounds))[0] == 200
    assert time.monotonic() - start < 3 * small.seconds + 0.5
    grown = f"memory {memory[0] >> 20} to {memory[-1] >> 20} MiB"
    print(f"{seconds} s: {dict(outcomes)}, capacity {capacity:.0f}/s, {grown}")


def test_what_clients_that_have_gone_asked_for_is_dropped(small):
    client = Client(small)

    def until_waiting(rows):
        deadline = time.monotonic() + 10
        while f"\nkcnn_queue_rows {rows}.0\n" not in client.ask("/metrics")[1]:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    until_waiting(0)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        asked = threads.submit(Client(small).ask, OTHER, slow(round(small.rounds / small.seconds)))  # a second
        time.sleep(0.2)
        body = json.dumps(slow(1)).encode()
        gone = [socket.create_connection(("127.0.0.1", small.rest)) for _ in range(4)]
        for connection in gone:
            head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            connection.sendall(head % (OTHER.encode(), len(body)) + body)
        until_waiting(4)
        for connection in gone:
            connection.close()
        until_waiting(0)
        assert not asked.done()
        assert asked.result()[0] == 200


def test_a_request_that_takes_too_long_is_given_up(small):
    status, answer = Client(small).ask(OTHER, slow(round(small.rounds * 12 / small.seconds)))
    assert (status, answer) == (504, {"error": "no answer within 3000 ms"})


def test_clients_that_never_end_their_requests_are_cut_off(small):
    """Expect that however much they send; a connection that was idle for longer may still ask."""
    head = b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
    begun = {
        b"": b"",
        b"GET /healthz HTTP/1.1\r\n": b"",
        b"POST /v1/models/other:predict" + head: b"HTTP/1.1 504 ",
        b"POST /healthz" + head: b"HTTP/1.1 405 ",
    }
    idle = Client(small)
    assert idle.ask("/healthz")[0] == 200
    start = time.monotonic()

    def send(begin):
        got = b""
        with socket.create_connection(("127.0.0.1", small.rest), timeout=30) as connection:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(begin)
                while begin and time.monotonic() < start + 20:
                    connection.sendall(b"X")
                    time.sleep(0.1)
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(1000):
                    got += part
        return got

    with concurrent.futures.ThreadPoolExecutor(len(begun)) as threads:
        for answer, got in zip(begun.values(), threads.map(send, begun), strict=True):
            assert got[: len(answer)] == answer
    assert 3 < time.monotonic() - start < 10  # the time-out is 3 s
    assert idle.ask("/healthz")[0] == 200


def test_calls_that_never_send_their_message_are_cut_off():
    """Expect that calls which wait for their turn take no memory, and that health checks do not wait."""

    async def ask():
        rpc = Rpc(Requests(Settings((), port=0, rest_api_timeout_in_ms=1000)), 1000)
        await rpc.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{rpc.port}") as channel:
            start = time.monotonic()
            predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
            silent = [predict() for _ in range(Settings.HELD_REQUESTS)]
            await asyncio.gather(*(call.wait_for_connection() for call in silent))
            busy = [predict() for _ in range(100)]
            writing = [asyncio.create_task(call.write(bytes(2**18))) for call in busy]
            check = health_pb2_grpc.HealthStub(channel).Check
            await check(health_pb2.HealthCheckRequest(), timeout=30)
            await asyncio.sleep(0.5)
            assert not any(call.done() for call in silent)
            assert not any(write.done() for write in writing)
            assert {await call.code() for call in silent} == {grpc.StatusCode.DEADLINE_EXCEEDED}
            assert time.monotonic() - start < 5
            await asyncio.gather(*writing, return_exceptions=True)  # which had their turn, or had not
        await rpc.stop(0)

    asyncio.run(ask())


def test_threads_that_are_busy_for_too_long_make_the_server_unready_and_no_worse(small):
    client = Client(small)
    while client.ask(OTHER, slow(1))[0] != 200:  # what was given up still runs
        time.sleep(0.1)
    assert client.ask("/readyz")[0] == 200
    assert client.ask(OTHER, slow(round(small.rounds * 5 / small.seconds)))[0] == 504  # after 3 s
    while client.ask("/readyz")[0] != 503:
        assert client.ask("/v1/models/other")[0] == 200
        time.sleep(0.05)
    with grpc.insecure_channel(f"127.0.0.1:{small.grpc}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert check.status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert client.ask("/healthz")[0] == 200
    while client.ask("/readyz")[0] != 200:
        time.sleep(0.1)


def test_ends_when_what_has_begun_is_answered_or_the_drain_is_over(small):
    """Run last: it ends the server of this file, whose drain takes 5 s."""
    while Client(small).ask(OTHER, slow(1))[0] != 200:  # what was given up still runs
        time.sleep(0.1)
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        rounds = round(small.rounds / small.seconds / 2)  # half a second
        clients = [Client(small) for _ in range(4)]
        asked = [threads.submit(client.ask, OTHER, slow(rounds)) for client in clients]
        time.sleep(0.3)
        hours = {"signature_name": "slow", "inputs": {"rounds": [2**31 - 1] * 4, "data": [""] * 4}}
        endless = threads.submit(Client(small).ask, OTHER, hours)  # a batch of its own, after the others
        time.sleep(0.1)
        small.process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        assert [one.result()[0] for one in asked] == [200] * 4
        assert endless.result()[0] == 504
    assert small.process.wait(timeout=30) == 0
    assert time.monotonic() - start < 10  # the drain and 2 s, in which nothing can interrupt TensorFlow
    with pytest.raises(ConnectionRefusedError):
        Client(small).ask("/healthz")
