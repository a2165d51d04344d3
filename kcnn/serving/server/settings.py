"""What the server is told: flags and configuration files of TensorFlow Serving, under its names."""

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from kcnn.errors import UserError
from kcnn.serving.publishing.versions import whole

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A folder of numbered versions.

    Attributes:
        name: in URLs and requests.
        base_path: the folder.
        latest: how many of the newest versions to serve; 0 for all.
        specific: the versions to serve instead.
        labels: label → version; None for those that stand in the folder itself, on versions that are served too.
    """

    name: str
    base_path: Path
    latest: int = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """Attributes that are not said here are those of TensorFlow Serving's flags and batching parameters.

    Attributes:
        port: of gRPC; 0 for any that is free.
        rest_api_port: of HTTP; likewise.
        max_batch_size: rows; a larger request is split.
        batch_timeout_micros: how long a request waits for others to fill its batch though the model is idle. While
            the model is busy, what arrives is joined in any case.
        max_enqueued_batches: full batches that may wait; beyond it requests are refused.
        num_batch_threads: batches that run at once.
        max_request_bytes: of one request. All requests that are held at once have HELD_REQUESTS times that.
        max_pixels: of one encoded image, by its header.
        drain_seconds: what is in flight when the server is told to end has this long.
    """

    models: tuple[ServedModel, ...]
    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 8501
    runtime: str = "tensorflow"
    enable_batching: bool = True
    max_batch_size: int = 32
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 8
    num_batch_threads: int = 2
    max_request_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000
    rest_api_timeout_in_ms: int = 30_000
    file_system_poll_wait_seconds: float = 1.0
    drain_seconds: float = 30.0

    HELD_REQUESTS = 16

    def __post_init__(self) -> None:
        least = {
            "max_batch_size": 1,
            "batch_timeout_micros": 0,
            "max_enqueued_batches": 1,
            "num_batch_threads": 1,
            "max_request_bytes": 1024,
            "max_pixels": 1,
            "rest_api_timeout_in_ms": 1,
            "file_system_poll_wait_seconds": 0.01,
            "drain_seconds": 0,
        }
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise UserError(f"--{name} {getattr(self, name)}: expected {lowest} or more")
        for name in ("port", "rest_api_port"):
            if not 0 <= getattr(self, name) < 2**16:
                raise UserError(f"--{name} {getattr(self, name)}: expected 0 (any that is free) to 65535")

    @property
    def queue_rows(self) -> int:
        """Rows that may wait."""
        return self.max_batch_size * self.max_enqueued_batches


# The flags that are attributes.
FLAGS = tuple(field.name for field in dataclasses.fields(Settings) if field.name != "models")


def served_model(name: str, base_path: str | os.PathLike) -> ServedModel:
    """Its newest version.

    Raises:
        UserError: the name is not one, or the folder has no versions.
    """
    model = ServedModel(name, Path(base_path))
    _check(model, f"--model_base_path {str(base_path)!r}")
    return model


def read_models(config_file: str | os.PathLike) -> tuple[ServedModel, ...]:
    """The models of a `models.config`: the text of a ModelServerConfig.

    The one that a run writes beside the versions has their folder as the container has it, /models/<name>: where there
    is none, it is the folder in which the file is.

    Source: https://www.tensorflow.org/tfx/serving/serving_config

    Raises:
        UserError: it cannot be read, or a model of it not found.
    """
    where = f"--model_config_file {str(config_file)!r}"
    try:
        text = Path(config_file).read_text(encoding="utf-8")
        config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise UserError(f"{where}: no ModelServerConfig: {error}") from error
    found = {}
    for entry in config.model_config_list.config:
        policy = entry.model_version_policy
        latest = 0 if policy.HasField("all") else policy.latest.num_versions or 1
        base, here = Path(entry.base_path), Path(config_file).resolve().parent
        if not base.exists() and base.name == here.name:
            base = here
        model = ServedModel(entry.name, base, latest, tuple(policy.specific.versions), dict(entry.version_labels))
        _check(model, f"{where}: base_path {entry.base_path!r}")
        if entry.name in found:
            raise UserError(f"{where}: two models are named {entry.name!r}")
        found[entry.name] = model
    if not found:
        raise UserError(f"{where}: expected model_config_list with one model or more")
    return tuple(found.values())


def _check(model: ServedModel, where: str) -> None:
    if not _NAME.fullmatch(model.name):
        raise UserError(f"model name {model.name!r}: expected letters, digits, '.', '_' and '-'")
    if (model.base_path / "saved_model.pb").is_file():
        raise UserError(f"{where} is one version: expected the folder around it, {str(model.base_path.parent)!r}")
    if not whole(model.base_path):
        raise UserError(f"{where}: no numbered versions there, as {str(model.base_path / '1' / 'saved_model.pb')!r}")
