"""The versions of the models: which exist, which are loaded, which answers a request.

A new version is loaded and warmed beside the served one, and takes over in one step. The old one answers the requests
that it has begun and is freed. The states are the states of TensorFlow Serving's ModelVersionStatus.
"""

import asyncio
import contextlib
import enum
import gc
import io
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from grpc import StatusCode
from PIL import Image
from tensorflow_serving.apis import prediction_log_pb2

from kcnn.errors import UserError
from kcnn.leftovers import is_data
from kcnn.serving.publishing.bundle import WARMUP
from kcnn.serving.publishing.labels import assigned_labels, current_labels
from kcnn.serving.publishing.versions import complete_versions
from kcnn.serving.server.memory import trim_memory
from kcnn.serving.server.metrics import Metrics
from kcnn.serving.server.runtime import DEFAULT_SIGNATURE, RUNTIMES, LoadedModel
from kcnn.serving.server.settings import ServedModel, Settings
from kcnn.serving.server.status import StatusError
from kcnn.terminal import print_lines

_log = logging.getLogger(__name__)


class State(enum.IntEnum):
    """As in tensorflow_serving/apis/get_model_status.proto."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


class Servable:
    """A version of a model.

    Attributes:
        model: what runs; only while it is AVAILABLE, or in use.
        error: why it could not be loaded, in state END.
        stamp: of the files then; when it is another, loading is tried again.
    """

    model: LoadedModel

    def __init__(self, name: str, path: Path, stamp: "Stamp"):
        self.name = name
        self.path = path
        self.version = int(path.name)
        self.state = State.LOADING
        self.error: str | None = None
        self.stamp = stamp
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the version in memory within the context."""
        self._users += 1
        self._unused.clear()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def unused(self) -> None:
        """Wait until nobody uses the version."""
        await self._unused.wait()


class Models:
    """All that are served. Its methods belong to one event loop."""

    def __init__(self, settings: Settings, metrics: Metrics):
        self._settings = settings
        self._metrics = metrics
        self._load = RUNTIMES[settings.runtime]
        self.served = {model.name: model for model in settings.models}
        self._versions: dict[str, dict[int, Servable]] = {name: {} for name in self.served}
        self._labels: dict[str, Mapping[str, int]] = {name: {} for name in self.served}
        self._obstacles: dict[str, str] = {}
        self._looked: set[str] = set()  # the models whose folders have been read once, and loaded
        self._unloading: set[asyncio.Task] = set()

    def ready(self) -> bool:
        """Return whether each model has a version to answer with."""
        return all(self._available(name) for name in self.served)

    def _available(self, name: str) -> list[Servable]:
        """Return the versions that can answer, the oldest first."""
        found = self._versions[name].values()
        return sorted((one for one in found if one.state is State.AVAILABLE), key=lambda one: one.version)

    def find(self, name: str, version: int | None = None, label: str | None = None) -> Servable:
        """Return the version that answers: the one asked for, or the newest.

        Raises:
            StatusError: UNAVAILABLE while it is being loaded; NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        if label is not None and name in self.served:
            labels = self._labels[name]
            if label not in labels:
                known = ", ".join(sorted(labels)) or "it has none"
                message = f"Unrecognized servable version label: {label}; labels of {name}: {known}"
                raise self._missing(name, None, StatusError(StatusCode.INVALID_ARGUMENT, message))
            version = labels[label]
        available = self._available(name) if name in self.served else []
        if version is None and available:
            return available[-1]
        for servable in available:
            if servable.version == version:
                return servable
        asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        there = ", ".join(str(one.version) for one in available) if available else ""
        known = f"available: version {there}" if there else f"models: {', '.join(self.served)}"
        message = f"Servable not found for request: {asked}; {known}"
        raise self._missing(name, version, StatusError(StatusCode.NOT_FOUND, message))

    def status(self, name: str, version: int | None = None, label: str | None = None) -> list[Servable]:
        """Return all versions, present or past, the newest first; or the version asked for, whatever its state.

        Raises:
            StatusError: as `find`.
        """
        if label is not None:
            return [self.find(name, label=label)]
        known = self._versions.get(name, {})
        if not known or (version is not None and version not in known):
            what = f"version {version}" if known else "any versions"
            message = f"Could not find {what} of model {name}"
            raise self._missing(name, version, StatusError(StatusCode.NOT_FOUND, message))
        return [known[version]] if version is not None else [known[number] for number in sorted(known, reverse=True)]

    def _missing(self, name: str, version: int | None, error: StatusError) -> StatusError:
        """Return the error of a request for what is not there: UNAVAILABLE while it may be being loaded."""
        loading = [one for one in self._versions.get(name, {}).values() if one.state is State.LOADING]
        expected = any(version in (None, one.version) for one in loading)
        if name in self.served and (expected or name not in self._looked):
            return StatusError(StatusCode.UNAVAILABLE, f"model {name} is being loaded: try again later")
        return error

    async def watch(self) -> None:
        """Follow the folders, for ever."""
        while True:
            await asyncio.sleep(self._settings.file_system_poll_wait_seconds)
            try:
                await self.poll()
            except Exception:  # a mistake here must not end the server
                _log.exception("cannot follow the folders of versions")

    async def poll(self) -> None:
        """Load the versions that are to be served; once all of them answer, unload the others."""
        for name, model in self.served.items():
            try:
                wanted, labels, damage = await asyncio.to_thread(_wanted, model)
            except (OSError, UserError) as error:  # the loaded versions stay
                self._tell(model, str(error))
                self._looked.add(name)
                continue
            self._tell(model, "; ".join(damage))
            for path in wanted:
                known = self._versions[name].get(int(path.name))
                if known is None or (known.state is State.END and known.stamp != _stamp(path)):
                    await self._load_version(name, path)
            available = self._available(name)
            numbers = {int(path.name) for path in wanted}
            # Where a new version fails to load, the old one stays, under its labels too.
            if numbers <= {servable.version for servable in available}:
                for servable in available:
                    if servable.version not in numbers:
                        self._unload(servable)
            there = {servable.version for servable in self._available(name)}
            before = self._labels[name]
            if damage:  # a label of which nothing is known stays where it was
                labels = {**before, **labels}
            self._labels[name] = {
                label: before[label] if number not in there and before.get(label) in there else number
                for label, number in labels.items()
            }
            self._looked.add(name)

    def _tell(self, model: ServedModel, obstacle: str) -> None:
        """Print what is wrong with the folder of a model, unless it was printed last time."""
        if obstacle and self._obstacles.get(model.name) != obstacle:
            print_lines(f"{model.base_path}: {obstacle}", file=sys.stderr)
        self._obstacles[model.name] = obstacle

    async def _load_version(self, name: str, path: Path) -> None:
        servable = Servable(name, path, _stamp(path))
        self._versions[name][servable.version] = servable
        try:
            servable.model = await asyncio.to_thread(self._load_and_warm, path)
        except Exception as error:  # whatever is wrong with the files, the server goes on
            servable.state = State.END
            servable.error = (str(error).splitlines() or [type(error).__name__])[0]
            print_lines(f"{path}: cannot be loaded: {servable.error}", file=sys.stderr)
            return
        servable.state = State.AVAILABLE
        self._metrics.version.labels(name, servable.version).set(1)
        print_lines(f"Loaded {path}")

    def _load_and_warm(self, path: Path) -> LoadedModel:
        model = self._load(path)
        try:
            _warm(model, path, self._settings.max_batch_size)
        except BaseException:
            model.close()
            raise
        gc.collect()
        gc.freeze()  # else Python looks through TensorFlow's objects again and again, half a second each time
        return model

    def _unload(self, servable: Servable) -> None:
        servable.state = State.UNLOADING
        self._metrics.version.remove(servable.name, servable.version)

        async def finish() -> None:
            await servable.unused()
            model = servable.model
            del servable.model
            await asyncio.to_thread(_free, model)
            servable.state = State.END
            servable.stamp = frozenset()  # when it comes back it is loaded again
            print_lines(f"Unloaded {servable.path}")

        task = asyncio.get_running_loop().create_task(finish())
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)


Stamp = frozenset[tuple[str, int, int, int]]


def _stamp(version: Path) -> Stamp:
    """Return what changes when a file of the version changes, comes or goes, but for what systems leave there."""
    found = set()
    for path in version.rglob("*"):
        if not all(map(is_data, path.relative_to(version).parts)):
            continue
        with contextlib.suppress(OSError):  # it is just changing
            facts = path.stat()
            found.add((str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns))
    return frozenset(found)


def _wanted(model: ServedModel) -> tuple[list[Path], Mapping[str, int], Sequence[str]]:
    """Return the versions on disk that are to be served, the oldest first, the labels, and what is damaged of these.

    Raises:
        OSError: the folder cannot be read.
    """
    os.listdir(model.base_path)  # raises where a pattern would find nothing
    found = complete_versions(model.base_path)
    labels = current_labels(model.base_path) if model.labels is None else model.labels
    damage = assigned_labels(model.base_path).damage if model.labels is None else ()
    numbers = set(model.specific)
    if not numbers:
        numbers = {int(path.name) for path in found[-model.latest :]}
        numbers |= set(labels.values()) if model.labels is None else set()
    return [path for path in found if int(path.name) in numbers], labels, damage


def _free(model: LoadedModel) -> None:
    model.close()
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    trim_memory()


def _warm(model: LoadedModel, path: Path, max_batch_size: int) -> None:
    """Run the first requests, which take longer than others: the warm-up requests of the export, or else blank ones.

    A signature that takes none of these stays cold.
    """
    if (path / WARMUP).is_file():
        for record in tf.compat.v1.io.tf_record_iterator(str(path / WARMUP)):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.HasField("predict_log"):
                request = log.predict_log.request
                inputs = {name: np.asarray(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
                model.run(request.model_spec.signature_name or DEFAULT_SIGNATURE, inputs)
        return
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    example = tf.train.Example()
    example.features.feature["image/encoded"].bytes_list.value.append(file.getvalue())
    for signature in model.signatures.values():
        if not signature.batched or len(signature.inputs) != 1:
            continue
        ((name, spec),) = signature.inputs.items()
        if spec.dtype == object:
            rows = [file.getvalue(), example.SerializeToString()]
        else:
            rows = [np.zeros([64 if size is None else size for size in (spec.shape or ())[1:]], spec.dtype)]
        for row in rows:
            for count in (1, max_batch_size):
                batch = np.empty(count, object) if spec.dtype == object else np.stack([row] * count)
                if spec.dtype == object:
                    batch[:] = row
                with contextlib.suppress(StatusError):
                    model.run(signature.name, {name: batch})
