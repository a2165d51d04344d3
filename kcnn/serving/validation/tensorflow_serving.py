"""TensorFlow Serving in Docker, and its REST API.

Source: https://www.tensorflow.org/tfx/serving/docker, https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import contextlib
import http.client
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

IMAGE = "tensorflow/serving"
MODEL = "candidate"
PORT = 8501
LOADING_SECONDS = 300.0
_ANSWER_SECONDS = 120.0
_COMMAND_SECONDS, _LOOK_SECONDS = 60.0, 10.0
# No proxy stands between this machine and itself.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServingError(Exception):
    """TensorFlow Serving does not load the model, or does not answer."""


class UnreachableError(Exception):
    """There is no TensorFlow Serving to ask, whatever the model: Docker starts none, or it is not reached from here."""


def _docker(*arguments: str, seconds: float = _COMMAND_SECONDS) -> str:
    """Run a docker command and return what it prints; raise UnreachableError when it fails."""
    command = ["docker", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds)
    except subprocess.CalledProcessError as error:
        message = error.stderr.strip().splitlines() or [f"exit {error.returncode}"]
        raise UnreachableError(f"docker {arguments[0]}: {message[-1]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnreachableError(f"docker {arguments[0]}: {error}") from error
    return done.stdout.strip()


def find_serving_image() -> str | None:
    """Return the id of TensorFlow Serving's image that Docker has here; None without one. Nothing is fetched."""
    try:
        return _docker("image", "inspect", "--format", "{{.Id}}", IMAGE, seconds=_LOOK_SECONDS) or None
    except UnreachableError:
        return None


@contextlib.contextmanager
def serve_in_docker(export_dir: str | os.PathLike, image: str) -> Iterator[str]:
    """Serve a SavedModel, on this machine alone, within the context; give the model's URL once it is loaded.

    Raises:
        UnreachableError: Docker does not start the image, or it cannot be reached.
        ServingError: the model was not loaded within five minutes, or not at all.
    """
    mount = f"type=bind,source={Path(export_dir).resolve()},target=/models/{MODEL}/1,readonly"
    container = _docker(
        *("run", "--detach", "--publish", f"127.0.0.1::{PORT}", "--mount", mount),
        *("--env", f"MODEL_NAME={MODEL}", "--env", "TF_CPP_MIN_LOG_LEVEL=2", image),
    )
    try:
        address = _docker("port", container, f"{PORT}/tcp").splitlines()[0]
        url = f"http://{address}/v1/models/{MODEL}"
        _wait(url, container)
        yield url
    finally:
        with contextlib.suppress(UnreachableError):  # the container has ended already
            _docker("rm", "--force", "--volumes", container)


def _wait(url: str, container: str) -> None:
    """Wait until the model is loaded."""
    deadline, message = time.monotonic() + LOADING_SECONDS, ""
    while time.monotonic() < deadline:
        try:
            (status,) = _request(url)["model_version_status"]
            if status["state"] == "AVAILABLE":
                return
            message = f"state {status['state']}: {status['status'].get('error_message') or 'no message'}"
            if status["state"] == "END":
                break
        except UnreachableError as error:
            if _docker("inspect", "--format", "{{.State.Running}}", container) == "false":
                lines = _docker("logs", "--tail", "1", container) or "no message"
                raise ServingError(f"ended before it had loaded the model: {lines}") from error
        except ServingError as error:  # "Servable not found", at first
            message = str(error)
        time.sleep(0.2)
    if not message:
        raise UnreachableError(f"it runs, but nothing answers at {url}")
    raise ServingError(f"does not load the model: {message}")


def _request(url: str, body: Any = None) -> Any:
    """Return the JSON that is answered to a GET, or to a POST of `body` as JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with _OPENER.open(request, timeout=_ANSWER_SECONDS) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        message = error.read().decode("utf-8", "replace")
        with contextlib.suppress(json.JSONDecodeError, KeyError, TypeError):
            message = json.loads(message)["error"]
        raise ServingError(f"{url} answers {error.code}: {' '.join(message.split())[:300]}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:  # no connection, or none of HTTP and JSON
        raise UnreachableError(f"{url}: {error}") from error


def served_signatures(url: str) -> set[str]:
    """Return the names of the served model's signatures."""
    found = _answered(f"{url}/metadata", None, "metadata", "signature_def", "signature_def")
    return {name for name in found if not name.startswith("__")}  # the runtime's own, "__saved_model_init_op"


def ask_predict(url: str, signature: str, name: str, values: Sequence[bytes] | np.ndarray) -> dict[str, np.ndarray]:
    """Send one request and return its outputs.

    Args:
        url: the model's, from `serve`.
        signature: which to ask.
        name: of its only input.
        values: its batch, encoded images or numbers.

    Returns:
        output → array; texts are bytes in UTF-8.
    """
    if isinstance(values, np.ndarray):
        batch = values.tolist()
    else:
        batch = [{"b64": base64.b64encode(value).decode()} for value in values]
    answer = _answered(f"{url}:predict", {"signature_name": signature, "inputs": {name: batch}}, "outputs")
    outputs = answer if isinstance(answer, dict) else {"probabilities": answer}  # the name of a single one is left out
    arrays = {output: np.array(value) for output, value in outputs.items()}
    return {key: np.char.encode(array, "utf-8") if array.dtype.kind == "U" else array for key, array in arrays.items()}


def _answered(url: str, body: Any, *keys: str) -> Any:
    """Return the value at the keys of an answer, from a server that has answered before.

    That it no longer answers is not the machine's fault.
    """
    try:
        answer = _request(url, body)
        for key in keys:
            answer = answer[key]
        return answer
    except UnreachableError as error:
        raise ServingError(str(error)) from error
    except (KeyError, TypeError) as error:
        raise ServingError(f"{url} answers without {'.'.join(keys)}") from error
