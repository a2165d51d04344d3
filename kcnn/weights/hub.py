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

from kcnn.errors import UserError, nearest
from kcnn.models.spec import MODELS, ModelSpec, model_spec
from kcnn.nn.preprocessing import describe_normalization
from kcnn.progress import bar
from kcnn.weights.copy import LoadReport
from kcnn.weights.files import fit_tensors, load_file
from kcnn.weights.timm_tags import TIMM_TAGS

if TYPE_CHECKING:
    from huggingface_hub import SafetensorsFileMetadata

T = TypeVar("T")

_PATIENCE = 5.0  # seconds in which the hub must answer
_BEGUN = 15.0  # seconds in which a download must have begun; the client ends one that stalls
_SMALL = 1 << 20  # bytes; a longer README or configuration is not fetched
_QUIET = 2.0  # seconds; a faster download shows no bar
_PREFIXES = ("timm:", "torchvision:", "hf://")
_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>refs/pr/\d+|[^/@]+))?(/(?P<file>[^@]+\.safetensors))?"
)
# torchvision's name of a set of weights → timm's tag of its copy
_TORCHVISION_TAGS = {"": "tv_in1k", "IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}
# What the client's environment variables are where the user has not set them, by the time it is imported.
_ENVIRONMENT = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",  # its transfers know no limit of time
    "HF_HUB_DOWNLOAD_TIMEOUT": "5",  # seconds without a byte, of each of six attempts
}


@dataclasses.dataclass(frozen=True)
class HubFile:
    """A file on the hub.

    Attributes:
        source: as the user wrote it, for messages.
        repo: "owner/name".
        revision: a branch, a tag or a commit.
        file: its path in the repository.
    """

    source: str
    repo: str
    revision: str = "main"
    file: str = "model.safetensors"


def is_hub_source(source: object) -> bool:
    """Return whether `source` names weights on the hub: "timm:NAME", "torchvision:NAME" or "hf://OWNER/NAME"."""
    return isinstance(source, str) and source.startswith(_PREFIXES)


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
    text = readme.read_text(encoding="utf-8", errors="replace") if readme is not None else ""
    front = re.match(r"\s*---\n(.*?)\n---", text, re.DOTALL)
    licence = re.search(r"^license:[ \t]*([\w.+-]+)[ \t]*$", front[1], re.MULTILINE) if front else None
    return {**found, "license": licence[1]} if licence else found


def parse_source(source: str, spec: ModelSpec) -> HubFile:
    """Return the file that `source` means for an architecture.

    Raises:
        UserError: it is malformed, for another network, or the hub is known to have no such weights.
    """
    if not source.startswith("hf://"):
        return HubFile(source, f"timm/{_timm_name(source, spec)}")
    match = _ADDRESS.fullmatch(source)
    if match is None or ".." in source:
        raise UserError(f"weights {source!r}: expected hf://OWNER/NAME, with @REVISION and /FILE.safetensors if needed")
    return HubFile(source, **{key: value for key, value in match.groupdict().items() if value})


def _timm_name(source: str, spec: ModelSpec) -> str:
    """Return timm's name with its tag, which is the name of the repository, of "timm:..." or "torchvision:..."."""
    project, _, given = source.partition(":")
    name, _, tag = given.partition(".")
    if name not in _names(spec, project):
        raise UserError(f"weights {source!r}: {_other_network(name, project, spec)}")
    tags = TIMM_TAGS.get(name, tag).split()
    has = f"timm has {', '.join(f'timm:{name}.{known}' for known in tags)}" if tags else "nor does timm have any there"
    if project == "torchvision":
        if tag not in _TORCHVISION_TAGS:
            raise UserError(f"weights {source!r}: {nearest(tag, [key for key in _TORCHVISION_TAGS if key])}")
        if (tag := _TORCHVISION_TAGS[tag]) not in tags:
            raise UserError(f"weights {source!r}: the hub has no copy of torchvision's; {has}, or give a file")
    elif not tags:
        raise UserError(f"weights {source!r}: timm has no weights of {name} on the hub; expected a file")
    return f"{name}.{tag or tags[0]}"


def _names(spec: ModelSpec, project: str) -> list[str]:
    """Return the names that a project has for an architecture; "timm" has its legacy networks too."""
    return [name for key, name in spec.torch.items() if key.partition("_")[0] == project]


def _other_network(name: str, project: str, spec: ModelSpec) -> str:
    """Say which architecture of ours a network of a project is, or which is close."""
    known = {theirs: row for row in MODELS for theirs in _names(MODELS.get(row), project)}
    if name in known:
        return f"{project}'s {name} is another network than {spec.name}: did you mean --model {known[name]}?"
    own = _names(spec, project)
    return f"{spec.name} is {project}'s {own[0]}" if own else nearest(name, known)


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
        with _asking(wanted):
            return Path(
                _bounded(
                    lambda begun: client.hf_hub_download(
                        filename=name, etag_timeout=_PATIENCE, tqdm_class=_make_bars(wanted.repo, begun), **where
                    ),
                    _BEGUN,
                )
            )

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


def _make_bars(repo: str, begun: threading.Event) -> Callable[..., Any]:
    """Return what makes the client's bars: this project's, once the first bytes are there."""

    def make(*, total: int | None = None, **_: Any) -> Any:
        begun.set()
        return bar(total=total, description=f"Fetching {repo}", unit="B", after=_QUIET, scaled=True)

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
        # Of the right shapes, and of one number each.
        tensors = {name: np.broadcast_to(np.float32(0), tensor.shape) for name, tensor in header.tensors.items()}
        fit_tensors(model, tensors, header.metadata, wanted.source)
    except UserError:
        raise
    except Exception as error:  # a damaged header holds anything
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"weights {wanted.source!r}: {wanted.file} cannot be read: {line}") from None


def _check_configuration(model: keras.Model, wanted: HubFile) -> tuple[str, ...]:
    """Compare `model` with what timm's `config.json` says, where there is one: names and shapes do not tell all.

    Returns:
        remarks for the report: on pixels that were normalised in another way.

    Raises:
        UserError: the weights are of another network of timm's, which may have equal shapes and another padding.
    """
    path = _find_cached(wanted, "config.json")
    try:
        found = json.loads(path.read_bytes()) if path is not None else {}
        architecture, trained_on = found.get("architecture"), found.get("pretrained_cfg", {})
        pixels = np.array([trained_on.get("mean"), trained_on.get("std")], np.float64)  # None becomes nan
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ()  # of some other program
    spec = model_spec(model.name)
    if isinstance(architecture, str) and "pretrained_cfg" in found and architecture not in _names(spec, "timm"):
        raise UserError(f"weights {wanted.source!r}: {_other_network(architecture, 'timm', spec)}")
    mode = getattr(model, "design", {}).get("preprocessing", spec.preprocessing)
    if pixels.shape == (2, 3) and not np.allclose(pixels, describe_normalization(mode), rtol=0.02):
        mean, deviation = pixels.tolist()
        return (f"trained on pixels with mean {mean} and deviation {deviation}, and {model.name} takes {mode!r}",)
    return ()
