"""ImageNet weights of the Keras project: cached, or fetched where that takes no waiting to find out."""

import os
import socket
import threading
from pathlib import Path

import keras

from kcnn.errors import UserError
from kcnn.models.factory import model_spec
from kcnn.models.spec import ModelSpec
from kcnn.weights.files import load_application

_HOST = "storage.googleapis.com"
_URL = f"https://{_HOST}/tensorflow/keras-applications/"
_PATIENCE = 3.0  # seconds in which the host must answer


def _cached(spec: ModelSpec) -> Path | None:
    if spec.application is None:
        return None
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    path = home / "models" / Path(spec.application.imagenet).name
    return path if path.is_file() else None


def _reachable() -> bool:
    """Whether the host takes a connection, answered within `_PATIENCE` even where the name server hangs."""
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((_HOST, 443), timeout=_PATIENCE).close()
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return answered.is_set()


def find_imagenet(spec: ModelSpec, *, offline: bool = False) -> Path | None:
    """The file of a model's ImageNet weights, fetched if need be; None when there is none or it cannot be had.

    Takes three seconds at most to find that there is no connection.
    """
    path = _cached(spec)
    if path is not None or spec.application is None or offline or not _reachable():
        return path
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)
    try:
        name = Path(spec.application.imagenet).name
        return Path(keras.utils.get_file(name, _URL + spec.application.imagenet, cache_subdir="models"))
    except Exception as error:  # get_file raises bare ones for what the network does
        print(f"ImageNet weights could not be fetched: {str(error).splitlines()[0]}")
        return None
    finally:
        socket.setdefaulttimeout(timeout)


def load_imagenet(model: keras.Model, *, offline: bool = False) -> list[str]:
    """As `kcnn.load_weights(model, "imagenet")`."""
    spec = model_spec(model.name)
    path = find_imagenet(spec, offline=offline)
    if path is None:
        reason = "keras.applications has none" if spec.application is None else f"not cached, and {_HOST} not reached"
        raise UserError(f"ImageNet weights of {spec.name}: {reason}; expected a file, auto or none")
    return load_application(model, path)
