"""The settings of `python main.py serve`: the defaults and help texts of its flags, under TensorFlow Serving's names.

This file imports neither TensorFlow nor the libraries of the server: the command line reads it to show its help.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from kcnn.data.input_pipeline.limits import MAX_PIXELS
from kcnn.errors import UserError


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A folder of numbered versions.

    Attributes:
        name: the model's name in URLs and requests.
        base_path: the folder.
        latest: how many of the newest versions to serve; 0 for all.
        specific: the versions to serve instead of the newest.
        labels: label → version; None for the labels in the folder itself, whose versions are served too.
    """

    name: str
    base_path: Path
    latest: int = 1
    specific: tuple[int, ...] = ()
    labels: Mapping[str, int] | None = None


def _flag(default: Any, help_text: str, lowest: float | None = None, highest: float | None = None) -> Any:
    """Return a field that is a flag of `serve`, with its help text and the range of its values."""
    return dataclasses.field(default=default, metadata={"help": help_text, "lowest": lowest, "highest": highest})


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a server. The fields with a help text are flags of `serve`, of the same names and defaults.

    Attributes:
        models: the models to serve.
        runtime: what runs the networks, a key of `kcnn.serving.prediction.runtimes.RUNTIMES`.
        max_batch_size: rows in a batch; a larger request is split.
        batch_timeout_micros: how long a request waits for others to fill its batch although the model is idle. While
            the model is busy, waiting requests are joined in any case.
        max_request_bytes: bytes of one request. All requests together may hold HELD_REQUESTS times as many.
        max_pixels: pixels of one encoded image, by its header.

    Raises:
        UserError: a value is out of its range.
    """

    models: tuple[ServedModel, ...]
    runtime: str = "tensorflow"
    port: int = _flag(8500, "Port of gRPC; 0 for any that is free.", 0, 2**16 - 1)
    rest_api_port: int = _flag(8501, "Port of the REST API and the page; 0 for any that is free.", 0, 2**16 - 1)
    host: str = _flag("127.0.0.1", "Address to listen on; 0.0.0.0 to serve other machines too.")
    enable_batching: bool = _flag(True, "Join requests into batches while the model is busy.")
    max_batch_size: int = _flag(32, "Images in a batch.", 1)
    batch_timeout_micros: int = _flag(0, "How long an idle model waits for a batch to fill, in microseconds.", 0)
    max_enqueued_batches: int = _flag(8, "Full batches that may wait; beyond it requests are refused (429).", 1)
    num_batch_threads: int = _flag(2, "Batches that run at once.", 1)
    max_request_bytes: int = _flag(16 * 2**20, "Larger requests are refused (413).", 1024)
    max_pixels: int = _flag(MAX_PIXELS, "Larger images are refused (400), by their header.", 1)
    rest_api_timeout_in_ms: int = _flag(30_000, "A request that takes longer is given up (504).", 1)
    rest_api_enable_cors_support: bool = _flag(False, "Let the pages of other origins ask the REST API (CORS).")
    file_system_poll_wait_seconds: float = _flag(1.0, "Seconds between two looks for new versions.", 0.01)
    allowed_hosts: str = _flag("", "Names, by commas, that clients may ask by, and whose web pages may; * for any.")
    drain_seconds: float = _flag(30.0, "Seconds that requests in flight at SIGTERM have to be answered.", 0)

    HELD_REQUESTS: ClassVar[int] = 16

    def __post_init__(self) -> None:
        for field in FLAG_FIELDS:
            value, lowest, highest = getattr(self, field.name), field.metadata["lowest"], field.metadata["highest"]
            if highest is not None and not lowest <= value <= highest:
                raise UserError(f"--{field.name} {value}: expected {lowest} (any that is free) to {highest}")
            if lowest is not None and value < lowest:
                raise UserError(f"--{field.name} {value}: expected {lowest} or more")
        for name in sorted(self.hosts):
            if not re.fullmatch(r"[a-z0-9_.-]+|[0-9a-f:.]+|\*", name):
                raise UserError(
                    f"--allowed_hosts {name!r}: expected names or addresses, without scheme and port, as in "
                    "models.example.com,10.0.0.7"
                )

    @property
    def hosts(self) -> frozenset[str]:
        """The names in --allowed_hosts."""
        return frozenset(name.strip().lower() for name in self.allowed_hosts.split(",") if name.strip())

    @property
    def queue_rows(self) -> int:
        """The rows that may wait."""
        return self.max_batch_size * self.max_enqueued_batches


# The fields that are flags of `serve`: each has a name, a type, a default, and a help text in metadata["help"].
FLAG_FIELDS = tuple(field for field in dataclasses.fields(Settings) if "help" in field.metadata)
