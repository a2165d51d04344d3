"""The server for those who run it: health, metrics, and what is wrong with the flags."""

import re
import socket
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving_process import TINY, b64, run_serve
from serving_process import predict_request as request
from tensorflow_serving.apis import inference_pb2, regression_pb2

from pipelines import command_line


def test_health_and_metrics(client, channel, pictures):
    assert client.ask("/healthz") == (200, {"status": "alive"})
    assert client.ask("/readyz") == (200, {"ready": True, "models": ["tiny", "other"]})
    client.ask(TINY, {"instances": [b64(pictures[0])]})
    client.ask(TINY, {})
    client.ask("/v1/models/made/up:predict", {})
    client.ask("/v1/models/madeup:predict", {})
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        status, text = client.ask(path)
        assert status == 200
        assert 'kcnn_requests_total{code="OK",method="predict",model="tiny",protocol="rest"}' in text
        assert 'kcnn_requests_total{code="INVALID_ARGUMENT",method="predict",model="tiny",protocol="rest"}' in text
        assert 'kcnn_model_version{model="tiny",version="2"} 1.0' in text
        assert 'kcnn_batch_rows_bucket{le="1.0",model="tiny"}' in text
        assert "kcnn_queue_rows 0.0" in text
        assert "madeup" not in text
    check = health_pb2_grpc.HealthStub(channel).Check
    for service in ("", "tensorflow.serving.PredictionService"):
        answer = check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_what_went_wrong_is_counted(server, stub, client, channel):
    """Count also the requests of other tests."""
    client.ask(TINY, b" " * 2_000_001)
    with socket.create_connection(("127.0.0.1", server.rest)) as connection:
        connection.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{" % TINY.encode())
    calls = [
        (stub.Predict, request("other", "slow", data=[b""], rounds=np.int32([200_000])), 0.2),
        (stub.Predict, request(image_bytes=[bytes(2_000_001)]), 30),
        (channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus"), b"\xff", 30),
        (stub.Regress, regression_pb2.RegressionRequest(), 30),
        (stub.MultiInference, inference_pb2.MultiInferenceRequest(), 30),
    ]
    for call, asked, seconds in calls:
        with pytest.raises(grpc.RpcError):
            call(asked, timeout=seconds)
    wanted = {
        'code="INVALID_ARGUMENT",method="predict",model="tiny",protocol="rest"',
        'code="CANCELLED",method="predict",model="tiny",protocol="rest"',
        'code="CANCELLED",method="predict",model="other",protocol="grpc"',
        'code="CANCELLED",method="predict",model="",protocol="grpc"',
        'code="INVALID_ARGUMENT",method="status",model="",protocol="grpc"',
        'code="INVALID_ARGUMENT",method="regress",model="",protocol="grpc"',
        'code="UNIMPLEMENTED",method="multiinference",model="",protocol="grpc"',
    }
    deadline = time.monotonic() + 10
    while wanted - (found := set(re.findall(r"kcnn_requests_total{(.*)}", client.ask("/metrics")[1]))):
        assert time.monotonic() < deadline, wanted - found
        time.sleep(0.05)
    assert "UNKNOWN" not in " ".join(found)


def test_what_is_wrong_with_the_flags_is_said(tmp_path, export_dir, server, capfd):
    broken = tmp_path / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "saved_model.pb").write_bytes(b"\x00")
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { nam: 'x' } }")
    absent = tmp_path / "absent.config"
    policy = "model_version_policy { specific { versions: 9 } }"
    absent.write_text(f"model_config_list {{ config {{ name: 'tiny' base_path: '{export_dir.parent}' {policy} }} }}")
    mistakes = [
        ([], "expected a model's name"),
        ([".tiny"], "model name '.tiny'"),
        (["../nope"], "no numbered versions there"),
        (["nope"], "no numbered versions there"),
        (["tiny", f"--model_base_path={export_dir}"], "is one version"),
        (["tiny", f"--model_base_path={export_dir.parent}", "--max_batch_size=0"], "--max_batch_size 0"),
        ([f"--model_config_file={config}"], "no ModelServerConfig"),
        (["tiny", f"--model_base_path={export_dir.parent}", f"--rest_api_port={server.rest}"], "in use"),
    ]
    broken_models = [
        (["broken", f"--model_base_path={broken.parent}", "--port=0", "--rest_api_port=0"], "cannot be loaded"),
        (
            [f"--model_config_file={absent}", "--port=0", "--rest_api_port=0"],
            "Could not find any versions of model tiny",
        ),
    ]

    def expect(status, written, said):
        assert status == 2, written
        (line,) = [line for line in written.splitlines() if line.startswith("main.py: error: ")]
        assert said in line
        assert "Traceback" not in written

    for arguments, said in mistakes:
        status = command_line.run(["main.py", "serve", *arguments])
        expect(status, capfd.readouterr().err, said)
    for arguments, said in broken_models:
        done = run_serve(*arguments)
        expect(done.returncode, done.stderr, said)
