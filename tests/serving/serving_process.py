"""`python main.py serve` in a process of its own, on free ports, and clients that know nothing of it."""

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2

TINY, OTHER = "/v1/models/tiny:predict", "/v1/models/other:predict"
ROOT = Path(__file__).parents[2]
STARTED = re.compile(r"http://127\.0\.0\.1:(\d+)/\n.*gRPC: +127\.0\.0\.1:(\d+)\n", re.DOTALL)


class Server:
    """A process that serves, and its ports."""

    def __init__(self, process, log, rest, grpc):
        self.process, self.log, self.rest, self.grpc = process, log, rest, grpc
        self.url = f"http://127.0.0.1:{rest}"

    def output(self):
        return self.log.read_text()

    def memory(self):
        """Return the bytes in memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmRSS:\s+(\d+)", status)[1])


@contextlib.contextmanager
def serve(folder, *flags):
    """Start a server with the flags and keep it within the context; its output goes to `folder`."""
    log = folder / f"server{len(list(folder.glob('server*')))}.log"
    command = [sys.executable, str(ROOT / "main.py"), "serve", "--port=0", "--rest_api_port=0", *map(str, flags)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not (found := STARTED.search(log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield Server(process, log, int(found[1]), int(found[2]))
    finally:
        process.kill()
        process.wait()


class Client:
    """HTTP on one connection that is kept."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.rest, timeout=120)

    def ask(self, path, body=None, method=None):
        """Return the status and the answer: the parsed JSON, or text."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.connection.request(method or ("GET" if body is None else "POST"), path, data)
            response = self.connection.getresponse()
            content = response.read()
        except (http.client.HTTPException, OSError):
            self.connection.close()  # the next request opens it anew
            raise
        self.headers = dict(response.getheaders())
        if self.headers.get("content-type") == "application/json":
            return response.status, json.loads(content)
        return response.status, content.decode()


def publish(version, folder, number):
    """Put a copy of a version where the server looks, in one step."""
    staged = folder / f".staged{number}"
    shutil.copytree(version, staged)
    os.rename(staged, folder / str(number))


def other_model(directory):
    """Save a SavedModel that this project did not export.

    It has two inputs, outputs without rows, bytes, classes, and a signature that takes its time.

    Its signatures:
        serving_default: x, y float [N] → sum [N], difference [N]
        texts: text string [N] → text_bytes string [N], length int32 [N]
        total: x float [?] → total float []
        classify: inputs string [N] → classes [N, 2], scores [N, 2], of the features "a" and "b"
        slow: data string [N], rounds int32 [N] → rounds int32 [N]; a round takes about 10 microseconds
    """

    def vector(dtype, name):
        return tf.TensorSpec([None], dtype, name=name)

    @tf.function(input_signature=[vector(tf.float32, "x"), vector(tf.float32, "y")])
    def serving_default(x, y):
        return {"sum": x + y, "difference": x - y}

    @tf.function(input_signature=[vector(tf.string, "text")])
    def texts(text):
        return {"text_bytes": text, "length": tf.strings.length(text)}

    @tf.function(input_signature=[vector(tf.float32, "x")])
    def total(x):
        return {"total": tf.reduce_sum(x)}

    @tf.function(input_signature=[vector(tf.string, "inputs")])
    def classify(inputs):
        number = tf.io.FixedLenFeature([], tf.float32)
        scores = tf.stack(list(tf.io.parse_example(inputs, {"a": number, "b": number}).values()), axis=1)
        return {"classes": tf.tile([["a", "b"]], [tf.shape(inputs)[0], 1]), "scores": scores}

    @tf.function(input_signature=[vector(tf.string, "data"), vector(tf.int32, "rounds")])
    def slow(data, rounds):
        matrix = tf.eye(64)
        for _ in tf.range(tf.reduce_max(rounds)):
            matrix = tf.matmul(matrix, matrix)
        return {"rounds": rounds + tf.cast(matrix[0, 1], tf.int32) + 0 * tf.strings.length(data)}

    functions = {
        "serving_default": serving_default,
        "texts": texts,
        "total": total,
        "classify": classify,
        "slow": slow,
    }
    module = tf.Module()
    tf.saved_model.save(module, str(directory), {name: f.get_concrete_function() for name, f in functions.items()})
    path = Path(directory, "saved_model.pb")  # TensorFlow 2 calls every method "predict"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    saved.meta_graphs[0].signature_def["classify"].method_name = tf.saved_model.CLASSIFY_METHOD_NAME
    path.write_bytes(saved.SerializeToString())


def b64(content):
    return {"b64": base64.b64encode(content).decode()}


def texts(rows):
    return [[name.decode() for name in row] for row in rows.tolist()]


def predict_request(name="tiny", signature="", **inputs):
    """Return a PredictRequest with these inputs, arrays or protos."""
    made = predict_pb2.PredictRequest()
    made.model_spec.name, made.model_spec.signature_name = name, signature
    for key, value in inputs.items():
        made.inputs[key].CopyFrom(value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value))
    return made


def run_serve(*arguments):
    command = [sys.executable, str(ROOT / "main.py"), "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
