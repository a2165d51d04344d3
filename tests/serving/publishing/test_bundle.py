"""The files beside the versions and in them, read as TensorFlow Serving reads them."""

import os
import re
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import serving_process
import tensorflow as tf
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from kcnn.serving.prediction.classifier import load_classifier
from kcnn.serving.publishing import bundle, versions
from kcnn.serving.publishing.labels import assign_labels, assigned_labels, current_labels
from kcnn.serving.publishing.rollback import republish_version
from kcnn.serving.server.models_config import read_models_config

NAME = "tiny_0.35"
# What tensorflow-serving-api leaves out of https://github.com/tensorflow/serving, tensorflow_serving/:
# servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto
PROTOS = """
    name: "serving.proto" package: "tensorflow.serving" syntax: "proto3" dependency: "google/protobuf/wrappers.proto"
    message_type {
      name: "BatchingParameters"
      field { name: "max_batch_size" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
      field { name: "batch_timeout_micros" number: 2 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
      field { name: "max_enqueued_batches" number: 3 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
      field { name: "num_batch_threads" number: 4 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
      field { name: "thread_pool_name" number: 5 type: TYPE_MESSAGE type_name: ".google.protobuf.StringValue" }
      field { name: "allowed_batch_sizes" number: 6 type: TYPE_INT64 label: LABEL_REPEATED }
      field { name: "pad_variable_length_inputs" number: 7 type: TYPE_BOOL }
    }
    message_type {
      name: "PrometheusConfig"
      field { name: "enable" number: 1 type: TYPE_BOOL }
      field { name: "path" number: 2 type: TYPE_STRING }
    }
    message_type {
      name: "MonitoringConfig"
      field { name: "prometheus_config" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.serving.PrometheusConfig" }
    }
"""


def official(name, text):
    pool = descriptor_pool.DescriptorPool()
    wrappers = descriptor_pb2.FileDescriptorProto()
    descriptor_pool.Default().FindFileByName("google/protobuf/wrappers.proto").CopyToProto(wrappers)
    pool.Add(wrappers)
    pool.Add(text_format.Parse(PROTOS, descriptor_pb2.FileDescriptorProto()))
    found = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}"))
    return text_format.Parse(text, found())


def publish(folder, export_dir, images=()):
    def write(staged):
        versions.shutil.copytree(export_dir, staged)
        bundle.write_warmup(staged, folder.name, images)

    version = versions.publish_version(folder, write)
    bundle.write_bundle(folder)
    return version


@pytest.fixture(scope="module")
def folder(export_dir, pictures, tmp_path_factory):
    """Give a model with one version, to read."""
    folder = tmp_path_factory.mktemp("saved_models") / NAME
    publish(folder, export_dir, pictures)
    return folder


@pytest.fixture
def fakes(tmp_path):
    """Make a model with four versions of a few bytes."""
    folder = tmp_path / "saved_models" / "m"

    def write(staged):
        staged.mkdir()
        (staged / "saved_model.pb").write_text(staged.parent.name)

    for _ in range(4):
        versions.publish_version(folder, write)
    bundle.write_bundle(folder)
    return folder


def config(folder):
    text = (folder / "models.config").read_text()
    (model,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    return model


def policy(folder):
    """Return the versions that TensorFlow Serving loads by models.config."""
    found = config(folder).model_version_policy
    numbers = sorted(int(name) for name in os.listdir(folder) if name.isdecimal())
    if found.HasField("latest"):
        return numbers[-found.latest.num_versions :]
    return [number for number in numbers if number in found.specific.versions]


def test_models_config(folder):
    model = config(folder)
    assert (model.name, model.base_path, model.model_platform) == (NAME, f"/models/{NAME}", "tensorflow")
    assert dict(model.version_labels) == {"stable": 1, "canary": 1}
    assert policy(folder) == [1]


def test_nothing_beside_is_taken_for_a_version(folder):
    """Expect no number: TensorFlow Serving takes every child whose name is a number, and no other."""
    assert [name for name in os.listdir(folder) if re.fullmatch(r"[+-]?\s*\d+\s*", name)] == ["1"]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in folder.iterdir() if path.is_file())
    assert not list(folder.glob(".*"))


def test_batching_is_matched_to_the_warm_up(folder):
    found = official("BatchingParameters", (folder / "batching.config").read_text())
    assert tuple(found.allowed_batch_sizes) == bundle.BATCH_SIZES
    assert found.max_batch_size.value == found.allowed_batch_sizes[-1]  # or TensorFlow Serving refuses it
    assert list(found.allowed_batch_sizes) == sorted(set(found.allowed_batch_sizes))
    assert not found.pad_variable_length_inputs  # which would put borders around images
    assert found.batch_timeout_micros.value == 2000
    assert min(found.num_batch_threads.value, found.max_enqueued_batches.value) >= 1


def test_monitoring(folder):
    found = official("MonitoringConfig", (folder / "monitoring.config").read_text())
    assert found.prometheus_config.enable
    manifest = (folder / "kubernetes.yaml").read_text()
    assert f"prometheus.io/path: {found.prometheus_config.path}\n" in manifest


def test_compose(folder):
    (service,) = yaml.safe_load((folder / "compose.yaml").read_text())["services"].values()
    flags = dict(flag.removeprefix("--").split("=") for flag in service["command"])
    (volume,) = service["volumes"]
    assert (volume["source"], volume["target"], volume["read_only"]) == (".", f"/models/{NAME}", True)
    named = [Path(value) for name, value in flags.items() if name.endswith("_file")]
    assert {path.name for path in named} == {"models.config", "batching.config", "monitoring.config"}
    for path in named:
        assert (folder / path.relative_to(volume["target"])).is_file()
    assert flags["allow_version_labels_for_unavailable_models"] == "true"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize(("status", "healthy"), [("200 OK", True), ("404 Not Found", False)])
def test_the_health_check_is_a_shell_command_that_works(folder, status, healthy):
    (service,) = yaml.safe_load((folder / "compose.yaml").read_text())["services"].values()
    command, *rest = service["healthcheck"]["test"]
    assert command == "CMD"
    asked = []

    def answer(server):
        connection, _ = server.accept()
        with connection:
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                received += connection.recv(1000)
            asked.append(received.decode())
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, args=(server,))
        thread.start()
        rest = [part.replace("/8501", f"/{server.getsockname()[1]}") for part in rest]
        done = subprocess.run(rest, capture_output=True, check=False)
        thread.join()
    assert asked[0].splitlines()[0] == f"GET /v1/models/{NAME}/metadata HTTP/1.0"
    assert (done.returncode == 0) == healthy


def test_kubernetes(folder):
    deployment, service = yaml.safe_load_all((folder / "kubernetes.yaml").read_text())
    assert (deployment["apiVersion"], deployment["kind"]) == ("apps/v1", "Deployment")
    assert (service["apiVersion"], service["kind"]) == ("v1", "Service")
    for manifest in (deployment, service):
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])  # RFC 1035, as of services
    pod = deployment["spec"]["template"]
    selected = deployment["spec"]["selector"]["matchLabels"].items()
    assert selected <= pod["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": f"/v1/models/{NAME}/metadata", "port": "rest"}
    assert container["livenessProbe"]["tcpSocket"]["port"] in ports
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    assert set(container["args"]) == set(next(iter(compose["services"].values()))["command"])


def test_readme_names_what_is_there_and_nothing_else(folder):
    text = (folder / "README.txt").read_text()
    named = re.findall(r"^  ([a-z_]+\.[a-z]+) ", text, re.MULTILINE)
    there = {path.name for path in folder.iterdir() if path.is_file()} - {"README.txt"}
    assert set(named) == there | {"labels.json"}
    assert "@" not in text
    (docker,) = [line for line in text.splitlines() if "docker run" in line]
    assert f'-v "$PWD:/models/{NAME}:ro"' in docker
    for file in re.findall(rf"=/models/{re.escape(NAME)}/(\S+)", docker):
        assert (folder / file).is_file()


def test_what_was_changed_by_hand_stays_but_models_config(fakes):
    (fakes / "batching.config").write_text("mine")
    (fakes / "models.config").write_text("mine")
    (fakes / "compose.yaml").unlink()
    bundle.write_bundle(fakes)
    assert (fakes / "batching.config").read_text() == "mine"
    assert (fakes / "compose.yaml").is_file()
    assert policy(fakes) == [3, 4]


def test_the_warm_up_replays_with_the_right_answers(folder, pictures):
    path = folder / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    logs = list(map(prediction_log_pb2.PredictionLog.FromString, records))
    assert len(logs) <= 1000  # TensorFlow Serving takes no more
    model = tf.saved_model.load(str(folder / "1"))
    expected = model.signatures["serving_default"](tf.constant(pictures))["probabilities"].numpy()
    sizes, asked = [], set()
    for log in logs:
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        assert request.model_spec.name == NAME
        signature = model.signatures[request.model_spec.signature_name]
        asked.add(request.model_spec.signature_name)
        if kind == "classify_log":
            examples = [example.SerializeToString() for example in request.input.example_list.examples]
            answer = signature(inputs=tf.constant(examples))
            np.testing.assert_allclose(answer["scores"].numpy(), expected[:1], atol=1e-5)
            continue
        ((key, proto),) = request.inputs.items()
        answer = signature(**{key: tf.constant(tf.make_ndarray(proto))})
        if request.model_spec.signature_name == "serving_default":
            sizes.append(len(answer["probabilities"]))
        if "probabilities" in answer:
            wanted = expected[np.arange(len(answer["probabilities"])) % len(pictures)]
            # A JPEG's pixels are decoded whole here, and only its window there.
            np.testing.assert_allclose(answer["probabilities"].numpy(), wanted, atol=0.03 if key == "images" else 1e-5)
    assert tuple(sizes) == bundle.BATCH_SIZES
    asked_for_nothing = {name for name, one in model.signatures.items() if not one.structured_input_signature[1]}
    assert asked == set(model.signatures) - asked_for_nothing


def test_a_warm_up_of_large_images_is_small(export_dir, tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(bundle, "WARMUP_BYTES", 4 * len(pictures[5]))
    versions.shutil.copytree(export_dir, tmp_path / "1")
    bundle.write_warmup(tmp_path / "1", "m", [pictures[5]])
    path = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = [bytes(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]
    logs = map(prediction_log_pb2.PredictionLog.FromString, records)
    requests = [log.predict_log.request for log in logs if log.HasField("predict_log")]
    default = [request for request in requests if request.model_spec.signature_name == "serving_default"]
    assert [request.inputs["image_bytes"].tensor_shape.dim[0].size for request in default] == [1, 2]
    assert bundle.write_warmup(tmp_path / "1", "m", []) == 0


def test_labels_stand_on_the_highest_until_they_are_put(fakes, export_dir):
    assert current_labels(fakes) == {"stable": 4, "canary": 4}
    assert assign_labels(fakes, {"stable": 1}) == {"stable": 1, "canary": 4}
    bundle.write_bundle(fakes)
    assert dict(config(fakes).version_labels) == {"stable": 1, "canary": 4}
    assert policy(fakes) == [1, 3, 4]
    publish(fakes, export_dir)
    assert dict(config(fakes).version_labels) == {"stable": 1, "canary": 5}
    assert policy(fakes) == [1, 4, 5]
    assert assign_labels(fakes, {"stable": None}) == {"stable": 5, "canary": 5}
    bundle.write_bundle(fakes)
    assert policy(fakes) == [1, 4, 5]  # see below
    bundle.write_bundle(fakes)
    assert policy(fakes) == [4, 5]


def test_a_label_moves_only_between_versions_that_are_both_loaded(fakes, export_dir):
    """Expect the old version too: otherwise TensorFlow Serving drops requests for the label that leaves it."""
    steps = [
        lambda: publish(fakes, export_dir),
        lambda: assign_labels(fakes, {"stable": 1}),
        lambda: assign_labels(fakes, {"stable": 2, "canary": 1}),
        lambda: republish_version(fakes, 3, ""),
        lambda: assign_labels(fakes, {"stable": None, "canary": None}),
    ]
    for step in steps:
        before = set(config(fakes).version_labels.values())
        step()
        bundle.write_bundle(fakes)
        assert before | set(config(fakes).version_labels.values()) <= set(policy(fakes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"stabel": 3}, "label 'stabel': did you mean 'stable'"), ({"stable": 9}, "no version 9; there are 1, 2, 3, 4")],
)
def test_wrong_labels_change_nothing(fakes, changes, message):
    with pytest.raises(versions.UserError, match=message):
        assign_labels(fakes, changes)
    assert not (fakes / "labels.json").exists()


def test_a_labels_file_that_somebody_broke_is_named(fakes):
    (fakes / "labels.json").write_text("stable: 3")
    told = assigned_labels(fakes).damage
    assert re.search(r"labels\.json: damaged: Expecting value", told[0])
    assert "stable stands where models.config has it; canary stands where" in told[1]
    assert current_labels(fakes) == {"stable": 4, "canary": 4}
    (fakes / "labels.json").write_text('{"stable": 77}')  # a version that was removed by hand
    assert current_labels(fakes) == {"stable": 4, "canary": 4}


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """Start a server that reads models.config as it is, except for the folder, which is a container's."""
    home = tmp_path_factory.mktemp("server")
    text = (folder / "models.config").read_text()
    (home / "models.config").write_text(text.replace(f"/models/{NAME}", str(folder)))
    with serving_process.serve(home, "--model_config_file", home / "models.config") as server:
        yield server


def run_client(folder, program, server, *arguments):
    command = [sys.executable, str(folder / program), *map(str, arguments), "--server", server]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "no_proxy": "*"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")


@pytest.mark.parametrize(
    ("program", "scheme", "label"),
    [
        ("rest_client.py", "http://", []),
        pytest.param("rest_client.py", "http://", ["--label", "canary"], marks=pytest.mark.slow),
        ("grpc_client.py", "", ["--label", "stable"]),  # which takes seconds to load
    ],
)
def test_the_clients(folder, server, pictures, tmp_path, program, scheme, label):
    paths = [tmp_path / "a b.jpg", tmp_path / "ü.png", tmp_path / "bad.gif"]
    for path, content in zip(paths, [pictures[0], pictures[1], b"bad"], strict=True):
        path.write_bytes(content)
    address = f"{scheme}127.0.0.1:{server.rest if scheme else server.grpc}"
    done = run_client(folder, program, address, *paths, *label)
    *good, bad = load_classifier(folder).predict(paths)
    expected = [f"{answer.file}: {answer.classes[0]} {answer.probabilities[0]:.1%}" for answer in good]
    assert done.stdout.splitlines() == [*expected, f"{bad.file}: {bad.error}"], done.stderr


@pytest.mark.parametrize(
    ("program", "scheme", "message"),
    [("rest_client.py", "http://", "404: "), pytest.param("grpc_client.py", "", "NOT_FOUND: ", marks=pytest.mark.slow)],
)
def test_the_clients_say_what_is_wrong(folder, server, tmp_path, program, scheme, message):
    address = f"{scheme}127.0.0.1:{server.rest if scheme else server.grpc}"
    (tmp_path / "a.jpg").write_bytes(b"")
    done = run_client(folder, program, address, tmp_path / "a.jpg", "--model", "other")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(message)


def test_the_client_says_what_is_missing(folder, tmp_path):
    done = run_client(folder, "rest_client.py", "http://127.0.0.1:1", tmp_path / "missing.jpg")
    assert (done.returncode, "No such file" in done.stderr) == (1, True)


def test_the_local_server_takes_the_configuration_where_it_lies(fakes):
    (model,) = read_models_config(fakes / "models.config")
    assert (model.name, model.base_path) == ("m", fakes)
