"""One server for the tests of its answers: two versions of a model, with a label, and a foreign model."""

import grpc
import pytest
import tensorflow as tf
from serving_process import Client, other_model, publish, serve
from tensorflow_serving.apis import prediction_service_pb2_grpc

CONFIG = """
model_config_list {{
  config {{
    name: "tiny" base_path: "{folder}/tiny" model_platform: "tensorflow"
    model_version_policy {{ all {{}} }}
    version_labels {{ key: "stable" value: 1 }}
  }}
  config {{ name: "other" base_path: "{folder}/other" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="session")
def server(export_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    for number in (1, 2):
        (folder / "tiny").mkdir(exist_ok=True)
        publish(export_dir, folder / "tiny", number)
    other_model(folder / "other" / "7")
    config = folder / "models.config"
    config.write_text(CONFIG.format(folder=folder))
    with serve(folder, f"--model_config_file={config}", "--max_request_bytes=2000000") as running:
        yield running
        assert "Traceback" not in running.output()


@pytest.fixture
def client(server):
    return Client(server)


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc}") as channel:
        yield channel


@pytest.fixture(scope="session")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="session")
def expected(export_dir, pictures):
    answers = tf.saved_model.load(str(export_dir)).signatures["serving_default"](image_bytes=tf.constant(pictures))
    return {name: value.numpy() for name, value in answers.items()}
