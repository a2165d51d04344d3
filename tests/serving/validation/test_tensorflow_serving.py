"""TensorFlow Serving's side of the check before publishing, with a `docker` that serves its documented REST API."""

import socket

import numpy as np
import pytest
from fake_docker import fake_docker

from kcnn.serving.validation import tensorflow_serving
from kcnn.serving.validation.tensorflow_serving import (
    ServingError,
    UnreachableError,
    ask_predict,
    find_serving_image,
    serve_in_docker,
    served_signatures,
)

SIGNATURES = {
    "serving_default": lambda images: {
        "probabilities": [[len(image) / 10, float("nan")] for image in images],
        "top_classes": [["naïve"] for _ in images],
    },
    "images": lambda images: {"probabilities": [[float(image[0][0][0])] for image in images]},
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(tensorflow_serving, "LOADING_SECONDS", 3.0)


def test_asks_and_cleans_up(tmp_path, monkeypatch):
    with fake_docker(tmp_path, monkeypatch, SIGNATURES) as docker:
        image = find_serving_image()
        assert image == "sha256:1234"
        export = tmp_path / "a, b:c"
        with serve_in_docker(export, image) as url:
            assert served_signatures(url) == {"serving_default", "images"}
            answer = ask_predict(url, "serving_default", "image_bytes", [b"\xff\xd8", b"123"])
            pixels = np.full((2, 3, 4, 3), 200, np.uint8)
            single = ask_predict(url, "images", "images", pixels)
            with pytest.raises(ServingError, match="answers 400: Malformed request"):
                ask_predict(url, "other", "x", [b""])
        np.testing.assert_array_equal(answer["probabilities"], [[0.2, np.nan], [0.3, np.nan]])
        assert answer["top_classes"].tolist() == [["naïve".encode()]] * 2
        assert single["probabilities"].tolist() == [[200.0], [200.0]]  # the name is not said of a single output
        calls = (docker / "calls").read_text().splitlines()
    run = next(call for call in calls if call.startswith("run "))
    assert f"--mount type=bind,source={export},target=/models/candidate/1,readonly" in run
    assert "--publish 127.0.0.1::8501" in run  # nobody else's business
    assert "--env MODEL_NAME=candidate" in run
    assert run.endswith(image)
    assert calls[-1] == "rm --force --volumes c0ffee"


def test_a_model_that_does_not_load_is_its_fault(tmp_path, monkeypatch):
    with fake_docker(tmp_path, monkeypatch, SIGNATURES, states=["LOADING", "END"]) as docker:
        with (
            pytest.raises(ServingError, match="does not load the model: state END: bad graph"),
            serve_in_docker(tmp_path, "i"),
        ):
            pass
        assert (docker / "calls").read_text().splitlines()[-1].startswith("rm ")


def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def test_a_server_that_dies_is_the_models_fault_and_one_that_is_not_reached_is_not(tmp_path, monkeypatch):
    with fake_docker(tmp_path, monkeypatch, SIGNATURES) as docker:
        (docker / "port").write_text(str(closed_port()))
        with pytest.raises(UnreachableError, match="nothing answers"), serve_in_docker(tmp_path, "i"):
            pass
        (docker / "running").write_text("false\n")
        ended = "ended before it had loaded the model: terminate called"
        with pytest.raises(ServingError, match=ended), serve_in_docker(tmp_path, "i"):
            pass


def test_docker_that_starts_nothing_is_not_the_models_fault(tmp_path, monkeypatch):
    with fake_docker(tmp_path, monkeypatch, SIGNATURES) as docker:
        (docker / "broken").touch()
        with pytest.raises(UnreachableError, match="docker run: docker: no space left"), serve_in_docker(tmp_path, "i"):
            pass
        (docker / "image").unlink()
        assert find_serving_image() is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_serving_image() is None
