"""The registered architectures as a table."""

import math
from collections.abc import Sequence

from kcnn.errors import UserError, nearest
from kcnn.models.spec import ModelSpec, list_models, model_spec
from kcnn.tables import aligned, json_line
from kcnn.weights import find_pretrained, find_starter

FIELDS = (
    "name",
    "family",
    "year",
    "paper",
    "params",
    "macs",
    "input_size",
    "min_size",
    "top1",
    "top5",
    "weights",
    "note",
)
TITLES = ("name", "year", "params", "mult-adds", "input", "top-1", "top-5", "weights", "offline", "paper")


def choose(
    names: Sequence[str] = (), family: str | None = None, *, max_params: float = math.inf, max_macs: float = math.inf
) -> list[ModelSpec]:
    """Return the architectures with these names, or all, that are of the family and within the limits.

    Args:
        names: registered models; none for all.
        family: None for all.
        max_params: millions.
        max_macs: billions of multiply-adds for an image of the usual size.

    Raises:
        UserError: there is no such model or family.
    """
    everything = [model_spec(name) for name in list_models()]
    families = sorted({spec.family for spec in everything})
    if family and family not in families:
        raise UserError(f"--family {family!r}: {nearest(family, families)}")
    return [
        spec
        for spec in (map(model_spec, names) if names else everything)
        if family in (None, "", spec.family) and spec.params <= max_params * 1e6 and spec.macs <= max_macs * 1e9
    ]


def _weights(spec: ModelSpec) -> list[str]:
    return spec.weights + ["starter"] * bool(find_starter(spec.name))


def json_lines(specs: Sequence[ModelSpec]) -> list[str]:
    """Return the architectures as JSON, one object a line."""
    rows = (
        {name: getattr(spec, name) for name in FIELDS}
        | {"weights": _weights(spec), "design": dict(spec.design), "offline": find_pretrained(spec, offline=True)}
        for spec in specs
    )
    return [*map(json_line, rows)]


def table(specs: Sequence[ModelSpec]) -> list[str]:
    """Return the architectures as a table, one line for each, under a line of titles."""
    rows = (
        (
            spec.name,
            str(spec.year),
            f"{spec.params / 1e6:.2f} M",
            f"{spec.macs / 1e9:.3f} G",
            str(spec.input_size),
            *("" if value is None else f"{value:.1f}" for value in (spec.top1, spec.top5)),
            ", ".join(_weights(spec)),
            ", ".join(find_pretrained(spec, offline=True)),
            spec.paper,
        )
        for spec in specs
    )
    return aligned((TITLES, *rows), right=range(1, 7))
