"""What names of weights on the hub mean: "timm:NAME", "torchvision:NAME" and "hf://OWNER/NAME"."""

import dataclasses
import re

from kcnn.errors import UserError, nearest
from kcnn.models.spec import MODELS, ModelSpec
from kcnn.weights.timm_tags import TIMM_TAGS

_PREFIXES = ("timm:", "torchvision:", "hf://")
_ADDRESS = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>refs/pr/\d+|[^/@]+))?(/(?P<file>[^@]+\.safetensors))?"
)
# torchvision's name of a set of weights → timm's tag of its copy
_TORCHVISION_TAGS = {"": "tv_in1k", "IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}


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
    if name not in names_in(spec, project):
        raise UserError(f"weights {source!r}: {describe_other_network(name, project, spec)}")
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


def names_in(spec: ModelSpec, project: str) -> list[str]:
    """Return the names that a project has for an architecture; "timm" has its legacy networks too."""
    return [name for key, name in spec.torch.items() if key.partition("_")[0] == project]


def describe_other_network(name: str, project: str, spec: ModelSpec) -> str:
    """Say which architecture of ours a network of a project is, or which is close."""
    known = {theirs: row for row in MODELS for theirs in names_in(MODELS.get(row), project)}
    if name in known:
        return f"{project}'s {name} is another network than {spec.name}: did you mean --model {known[name]}?"
    own = names_in(spec, project)
    return f"{spec.name} is {project}'s {own[0]}" if own else nearest(name, known)
