"""The same version in OpenVINO, ONNX Runtime and TensorFlow, which must all answer alike.

Asked are its signatures, a classifier and the server.
"""

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent import futures

import grpc
import numpy as np
import onnxruntime
import openvino
import pytest
import tensorflow as tf
from requests_and_answers import BROKEN, example
from serving_process import ROOT, Client, b64, publish, run_serve, serve, texts
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tiny_classifier import LABELS, SPEC

from kcnn.errors import UserError
from kcnn.serving.export.classifier import export_classifier
from kcnn.serving.formats import catalogue
from kcnn.serving.prediction import runtimes
from kcnn.serving.prediction.classifier import load_classifier
from kcnn.serving.server.runtime import RUNTIMES
from pipelines import command_line

OTHERS = ["onnx", pytest.param("openvino", marks=pytest.mark.slow)]
OPEN = {"openvino": openvino.CompiledModel, "onnx": onnxruntime.InferenceSession}


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    directory = tmp_path_factory.mktemp("formats") / "tiny" / "1"
    export_classifier(model, directory, LABELS, SPEC, formats=("savedmodel", "openvino", "onnx"), temperature=1.7)
    return directory


@pytest.fixture(scope="module")
def exact(version):
    return tf.saved_model.load(str(version)).signatures


@pytest.fixture(scope="module", params=OTHERS)
def runtime(request):
    return request.param


@pytest.fixture(scope="module")
def loaded(runtime, version):
    return runtimes.load_runtime(runtime, version)


def expect_alike(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        if value.dtype == tf.string:
            np.testing.assert_array_equal(found[name].numpy(), value.numpy())
        else:
            np.testing.assert_allclose(found[name].numpy(), value.numpy(), atol=1e-3)


def test_every_signature_answers_as_tensorflow(loaded, exact, pictures):
    random = np.random.default_rng(0)
    mixed = [*BROKEN, *pictures]
    rows = [*map(example, mixed), b"no example"]
    floats = random.uniform(0, 255, (3, 24, 32, 3)).astype("f")
    floats[1, 2, 3, 0] = np.nan
    asked = {
        "serving_default": [mixed, pictures, list(BROKEN), tf.zeros([0], tf.string)],
        "embed": [mixed, tf.zeros([0], tf.string)],
        "predict_tf_example": [rows, tf.zeros([0], tf.string)],
        "classify": [rows, tf.zeros([0], tf.string)],
        "images": [random.integers(0, 256, (4, 71, 50, 3), np.uint8), np.zeros((0, 5, 6, 3), np.uint8)],
        "images_float": [floats, floats[:0]],
    }
    assert set(loaded.signatures) == set(exact) == {*asked, "metadata"}
    for name, requests in asked.items():
        for request in requests:
            expect_alike(loaded.signatures[name](tf.constant(request)), exact[name](tf.constant(request)))
    expect_alike(loaded.signatures["metadata"](), exact["metadata"]())


def test_the_classifier_answers_alike(runtime, version, pictures, tmp_path):
    (tmp_path / "a.jpg").write_bytes(pictures[0])
    (tmp_path / "empty.png").write_bytes(b"")
    inputs = [tmp_path, *pictures, *BROKEN, np.zeros((40, 30, 3), np.uint8), np.full((9, 9, 3), 77.5)]
    exact, other = (
        load_classifier(folder, name) for folder, name in ((version, "tensorflow"), (version.parent, runtime))
    )
    expected, found = (classifier.predict(inputs, top=7) for classifier in (exact, other))
    assert [(answer.file, answer.classes, answer.error) for answer in found] == [
        (answer.file, answer.classes, answer.error) for answer in expected
    ]
    for one, another in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.probabilities, another.probabilities, atol=1e-3)
    np.testing.assert_allclose(other.embed(pictures), exact.embed(pictures), atol=1e-3)
    assert other.embed([]).shape == exact.embed([]).shape


def test_threads_share_it(loaded, exact, pictures):
    """Expect that requests in different threads each get their own answers."""
    requests = [tf.constant(pictures[start:] + pictures[:size]) for start in range(6) for size in range(4)] * 4
    expected = {bytes(b"".join(request.numpy())): exact["serving_default"](request) for request in requests}
    with futures.ThreadPoolExecutor(8) as threads:
        for request, answer in zip(requests, threads.map(loaded.signatures["serving_default"], requests), strict=True):
            expect_alike(answer, expected[bytes(b"".join(request.numpy()))])


def test_a_closed_model_is_freed(runtime, version, pictures):
    def count():
        gc.collect()
        return sum(isinstance(one, OPEN[runtime]) for one in gc.get_objects())

    before = count()
    model = RUNTIMES[runtime](version)
    images = np.empty(len(pictures), object)
    images[:] = pictures
    assert model.run("serving_default", {"image_bytes": images})["probabilities"].shape == (len(pictures), len(LABELS))
    assert count() == before + 1
    model.close()
    assert count() == before


def test_it_computes_as_exactly_as_the_export(version, tmp_path, monkeypatch):
    """Expect float32: OpenVINO rounds to bfloat16 by itself where the processor has it."""
    told = []

    def compile_model(core, model, device, settings):
        told.append(settings["INFERENCE_PRECISION_HINT"])
        return original(core, model, device, settings)

    original = openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "compile_model", compile_model)
    runtimes.load_runtime("openvino", version)
    rounded = tmp_path / "1"
    shutil.copytree(version, rounded)
    described = runtimes.runtime_file("openvino", rounded)
    text = described.read_text(encoding="utf-8")
    described.write_text(text.replace("&quot;precision&quot;: &quot;float32", "&quot;precision&quot;: &quot;bfloat16"))
    runtimes.load_runtime("openvino", rounded)
    assert told == ["f32", "bf16"]


def test_what_is_missing_is_said(runtime, version, export_dir, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=f"export {export_dir} --formats {runtime}"):
        load_classifier(export_dir, runtime)
    with pytest.raises(UserError, match="runtime 'openvin': did you mean 'openvino'"):
        load_classifier(version, "openvin")
    damaged = tmp_path / "1"
    shutil.copytree(version, damaged)
    runtimes.runtime_file(runtime, damaged).write_bytes(b"\x00")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_classifier(damaged, runtime)
    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install"):
        load_classifier(version, runtime)


def test_predict_on_the_command_line(runtime, version, export_dir, pictures, tmp_path, monkeypatch, capfd):
    (tmp_path / "a.jpg").write_bytes(pictures[0])
    (expected,) = load_classifier(version).predict(tmp_path / "a.jpg")
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()

    def predict(folder):
        return command_line.run(["main.py", "predict", str(folder), "a.jpg", "--json", "--runtime", runtime])

    assert predict(version) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    assert json.loads(printed.out)["classes"] == list(expected.classes)
    assert predict(export_dir) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"python main.py export {export_dir} --formats {runtime}" in line


@pytest.mark.slow
def test_nobody_is_told(version, tmp_path):
    """Expect no report: OpenVINO reports its import to Google Analytics where it can."""
    program = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): print(event, arguments)\n"
        "sys.addaudithook(hook)\n"
        "import kcnn\n"
        "kcnn.load_classifier(sys.argv[1], 'openvino')\n"
    )
    command = [sys.executable, "-c", program, str(version)]
    environment = {**os.environ, "HOME": str(tmp_path)}  # where it keeps whom it has asked
    environment.pop("CI", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "")
    assert not (tmp_path / "intel").exists()


@pytest.mark.slow
def test_served(runtime, version, export_dir, exact, pictures, tmp_path):
    """Ask by REST and gRPC; a version without the format leaves the previous one in place."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    publish(version, folder, 1)
    mixed = [*pictures, *list(BROKEN)[:4]]  # no more pixels than the server takes
    expected = {name: value.numpy() for name, value in exact["serving_default"](tf.constant(mixed)).items()}
    with serve(tmp_path, "tiny", f"--model_base_path={folder}", f"--runtime={runtime}") as server:
        client = Client(server)
        status, answer = client.ask("/v1/models/tiny:predict", {"inputs": [b64(image) for image in mixed]})
        assert status == 200
        assert answer["outputs"]["status"] == [said.decode() for said in expected["status"]]
        assert answer["outputs"]["top_classes"] == texts(expected["top_classes"])
        np.testing.assert_allclose(answer["outputs"]["probabilities"], expected["probabilities"], atol=1e-3)
        examples = [{"image/encoded": b64(pictures[0])}]
        status, answer = client.ask("/v1/models/tiny:classify", {"signature_name": "classify", "examples": examples})
        assert status == 200
        np.testing.assert_allclose(
            [score for _, score in answer["results"][0]], expected["probabilities"][0], atol=1e-3
        )
        with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
            asked = predict_pb2.PredictRequest()
            asked.model_spec.name = "tiny"
            asked.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(mixed))
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(asked, timeout=30)
        for name, array in expected.items():
            found = tf.make_ndarray(answer.outputs[name])
            if array.dtype == object:
                np.testing.assert_array_equal(found, array)
            else:
                np.testing.assert_allclose(found, array, atol=1e-3)

        def state(number, wanted):
            deadline = time.monotonic() + 30
            while True:
                found = client.ask("/v1/models/tiny")[1]["model_version_status"]
                states = {int(one["version"]): one for one in found}
                if number in states and states[number]["state"] == wanted:
                    return states
                assert time.monotonic() < deadline, found
                time.sleep(0.1)

        publish(export_dir, folder, 2)
        states = state(2, "END")
        said = states[2]["status"]["error_message"]
        assert f"python main.py export {folder / '2'} --formats {runtime}" in said
        assert said in server.output()
        assert states[1]["state"] == "AVAILABLE"
        assert client.ask("/v1/models/tiny:predict", {"inputs": [b64(pictures[0])]})[0] == 200
        publish(version, folder, 3)
        assert state(1, "END")[3]["state"] == "AVAILABLE"
        assert client.ask("/v1/models/tiny:predict", {"inputs": [b64(pictures[0])]})[0] == 200
        assert "Traceback" not in server.output()


def test_served_without_the_format(export_dir):
    done = run_serve(
        "tiny", f"--model_base_path={export_dir.parent}", "--port=0", "--rest_api_port=0", "--runtime=onnx"
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("main.py: error: ")]
    assert f"python main.py export {export_dir} --formats onnx" in line
