"""Weights from the Hugging Face hub: timm's, torchvision's, any repository's. Safetensors only; nothing of it runs.

A file is fetched once, by the hub's own client into its own cache. Its header comes first: names and shapes are
compared with the network before anything large is fetched. What is cached is taken without a connection.
"""

import contextlib
import contextvars
import dataclasses
import hashlib
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import keras
import numpy as np

from kcnn.errors import UserError
from kcnn.models.spec import model_spec
from kcnn.nn.preprocessing import describe_normalization
from kcnn.progress import bar
from kcnn.weights.copy import LoadReport
from kcnn.weights.files import fit_tensors, load_file
from kcnn.weights.hub_names import HubFile, describe_other_network, names_in, parse_source
from kcnn.weights.stored import StoredTensor, check_file_size

if TYPE_CHECKING:
    from huggingface_hub import SafetensorsFileMetadata

T = TypeVar("T")

_PATIENCE = 5.0  # seconds in which the hub must answer
_BEGUN = 15.0  # seconds in which a download must have begun; the client ends one that stalls
_SMALL = 1 << 20  # bytes; a longer README or configuration is not fetched
_QUIET = 2.0  # seconds; a faster download shows no bar
# What the client's environment variables are where the user has not set them, by the time it is imported.
_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",  # its transfers know no limit of time
    "HF_HUB_DOWNLOAD_TIMEOUT": "5",  # seconds without a byte, of each of six attempts
}


def load_hub(model: keras.Model, source: str, *, offline: bool = False) -> LoadReport:
    """Give `model` weights from the hub, as `kcnn.load_weights` does.

    Raises:
        UserError: they cannot be had, or are for another network; `model` is as it was.
    """
    wanted = parse_source(source, model_spec(model.name))
    client = _client(wanted)
    if (cached := _find_cached(wanted, wanted.file)) is not None:
        _check_header(model, wanted, lambda: client.parse_local_safetensors_file_metadata(cached))
        path, remarks = cached, _check_configuration(model, wanted)
    else:
        path, remarks = _fetch(model, wanted, offline=offline)
    report = load_file(model, path)
    return dataclasses.replace(report, source=source, remarks=(*report.remarks, *remarks))


def describe_hub_file(source: str, model: str) -> dict[str, str]:
    """Return where weights in the cache are from: "repo", "revision" (the commit), "file", "sha256" and "license".

    The licence is what the repository's README declares; without one there is no such key. {} where the file is not
    cached.

    Raises:
        UserError: `source` is not for this model, or the client is not installed.
    """
    wanted = parse_source(source, model_spec(model))
    path = _find_cached(wanted, wanted.file)
    if path is None:
        return {}
    commit = path.parents[wanted.file.count("/")].name
    with path.open("rb") as file:
        found = {
            "repo": wanted.repo,
            "revision": commit,
            "file": wanted.file,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
    readme = _find_cached(wanted, "README.md")
    text = _read_start(readme).decode(errors="replace") if readme is not None else ""
    front = re.match(r"\s*---\n(.*?)\n---", text, re.DOTALL)
    licence = re.search(r"^license:[ \t]*([\w.+-]+)[ \t]*$", front[1], re.MULTILINE) if front else None
    return {**found, "license": licence[1]} if licence else found


def _read_start(path: Path) -> bytes:
    """Return the bytes of a small file; of one that another program has put into the cache, the first."""
    with path.open("rb") as file:
        return file.read(_SMALL)


def _client(wanted: HubFile) -> Any:
    """Return the module of the hub's client.

    Raises:
        UserError: it is not installed.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(f"weights {wanted.source!r}: the hub's client is missing: pip install 'kcnn[hub]'") from None
    return huggingface_hub


def _find_cached(wanted: HubFile, file: str) -> Path | None:
    client = _client(wanted)
    with _asking(wanted):
        found = client.try_to_load_from_cache(wanted.repo, file, revision=wanted.revision)
    return Path(found) if isinstance(found, str) else None


def find_hub_file(source: str, model: str) -> Path | None:
    """Return the file in the cache that `source` means for an architecture; None where it is not cached."""
    wanted = parse_source(source, model_spec(model))
    return _find_cached(wanted, wanted.file)


def _fetch(model: keras.Model, wanted: HubFile, *, offline: bool) -> tuple[Path, tuple[str, ...]]:
    """Check the file's header, then fetch it with what says whose it is.

    Returns:
        its path in the cache, and the remarks of `_check_configuration`.
    """
    client = _client(wanted)
    from huggingface_hub import constants

    if offline or constants.is_offline_mode():
        raise UserError(f"weights {wanted.source!r}: {wanted.repo} is not in {constants.HF_HUB_CACHE}, and offline")
    where = {"repo_id": wanted.repo, "revision": wanted.revision}
    with _asking(wanted):
        info = _bounded(lambda _: client.HfApi().model_info(**where, files_metadata=True, timeout=_PATIENCE), _PATIENCE)
    files = {sibling.rfilename: sibling for sibling in info.siblings or []}
    if wanted.file not in files:
        others = [f"hf://{wanted.repo}/{name}" for name in files if name.endswith(".safetensors")]
        raise UserError(
            f"weights {wanted.source!r}: {wanted.repo} has no {wanted.file}; "
            + (f"expected {' or '.join(others)}" if others else "other files than .safetensors are not read")
        )

    def read_header() -> "SafetensorsFileMetadata":
        with _asking(wanted):
            api = client.HfApi()
            return _bounded(
                lambda _: api.parse_safetensors_file_metadata(filename=wanted.file, timeout=_PATIENCE, **where),
                _PATIENCE,
            )

    def download(name: str) -> Path:
        def fetch(begun: threading.Event) -> str:
            bars = _make_bars(files[name].size or 0, wanted.repo, begun)
            return str(client.hf_hub_download(filename=name, etag_timeout=_PATIENCE, tqdm_class=bars, **where))

        with _asking(wanted):
            return Path(_bounded(fetch, _BEGUN))

    check_file_size(model, files[wanted.file].size or 0, wanted.source)
    _check_header(model, wanted, read_header)
    for name in ("config.json", "README.md"):
        if name in files and (files[name].size or 0) <= _SMALL:
            download(name)
    remarks = _check_configuration(model, wanted)
    path = download(wanted.file)
    announced = files[wanted.file].lfs
    with path.open("rb") as file:
        if announced is not None and hashlib.file_digest(file, "sha256").hexdigest() != announced.sha256:
            path.resolve().unlink()
            raise UserError(f"weights {wanted.source!r}: what arrived is damaged, by the hub's checksum: try again")
    return path, remarks


def _make_bars(size: int, repo: str, begun: threading.Event) -> Callable[..., Any]:
    """Return what makes the client's bars: this project's, which end a download of more than the announced bytes.

    What is sent may be compressed, and the client unpacks it as long as it lasts.
    """

    def make(*, total: int | None = None, **_: Any) -> Any:
        begun.set()
        progress = bar(total=total, description=f"Fetching {repo}", unit="B", after=_QUIET, scaled=True)
        draw, received = progress.update, 0

        def update(count: int) -> None:
            nonlocal received
            received += count
            if received > size:
                raise ValueError(f"more than the {size:,} bytes that were announced")
            draw(count)

        progress.update = update
        return progress

    return make


def _bounded(work: Callable[[threading.Event], T], seconds: float) -> T:
    """Return what `work` returns.

    Raises:
        TimeoutError: it has neither ended nor set its event within `seconds`, whatever it waits for, a name server too.
    """
    future: Future[T] = Future()
    begun = threading.Event()

    def run() -> None:
        try:
            future.set_result(work(begun))
        except BaseException as error:
            future.set_exception(error)
        finally:
            begun.set()

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    if not begun.wait(seconds):
        raise TimeoutError(f"no answer within {seconds:.0f} seconds")
    return future.result()


@contextlib.contextmanager
def _asking(wanted: HubFile) -> Iterator[None]:
    """Turn what the client raises into a UserError, and keep it from writing lines of its own."""
    from huggingface_hub import constants, errors

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    except errors.GatedRepoError:
        reason = f"{wanted.repo} is gated: accept its terms on {constants.ENDPOINT}/{wanted.repo}, then `hf auth login`"
    except errors.RevisionNotFoundError:
        reason = f"{wanted.repo} has no revision {wanted.revision!r}"
    except errors.RepositoryNotFoundError:
        reason = f"{constants.ENDPOINT} has no repository {wanted.repo}, or it is private"
    except errors.EntryNotFoundError:
        reason = f"{wanted.repo} has no {wanted.file}"
    except errors.SafetensorsParsingError:
        reason = f"{wanted.repo}/{wanted.file} is no safetensors file"
    except errors.HFValidationError:
        reason = f"{wanted.repo} can be no repository's name"
    except Exception as error:  # the client's transport raises classes of its own, which differ between versions
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = f"cannot be fetched from {constants.ENDPOINT}: {line}"
    else:
        return
    finally:
        logger.setLevel(level)
    raise UserError(f"weights {wanted.source!r}: {reason}")


def _check_header(model: keras.Model, wanted: HubFile, read: "Callable[[], SafetensorsFileMetadata]") -> None:
    """Raise UserError where the names and shapes in a file's header do not fit `model`."""
    try:
        header = read()
        tensors = {
            name: StoredTensor(tuple(map(_count, tensor.shape)), _never) for name, tensor in header.tensors.items()
        }
        fit_tensors(model, tensors, header.metadata, wanted.source)
    except UserError:
        raise
    except Exception as error:  # a damaged header holds anything
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"weights {wanted.source!r}: {wanted.file} cannot be read: {line}") from None


def _count(length: Any) -> int:
    if type(length) is not int or length < 0:
        raise ValueError(f"{str(length)[:20]} is no length of an axis")
    return length


def _never() -> np.ndarray:
    """Stand for what reads a tensor of which nothing but the header is here."""
    raise AssertionError("only the header has been fetched")


def _check_configuration(model: keras.Model, wanted: HubFile) -> tuple[str, ...]:
    """Compare `model` with what timm's `config.json` says, where there is one: names and shapes do not tell all.

    Returns:
        remarks for the report: on pixels that were normalised in another way.

    Raises:
        UserError: the weights are of another network of timm's, which may have equal shapes and another padding.
    """
    path = _find_cached(wanted, "config.json")
    try:
        found = json.loads(_read_start(path)) if path is not None else {}
        architecture, trained_on = found.get("architecture"), found.get("pretrained_cfg", {})
        pixels = np.array([trained_on.get("mean"), trained_on.get("std")], np.float64)  # None becomes nan
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ()  # of some other program
    spec = model_spec(model.name)
    if isinstance(architecture, str) and "pretrained_cfg" in found and architecture not in names_in(spec, "timm"):
        raise UserError(f"weights {wanted.source!r}: {describe_other_network(architecture, 'timm', spec)}")
    mode = getattr(model, "design", {}).get("preprocessing", spec.preprocessing)
    if pixels.shape == (2, 3) and not np.allclose(pixels, describe_normalization(mode), rtol=0.02):
        mean, deviation = pixels.tolist()
        return (f"trained on pixels with mean {mean} and deviation {deviation}, and {model.name} takes {mode!r}",)
    return ()
