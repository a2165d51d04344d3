"""The checks of a gate: what was measured, what was asked of it, and the verdict."""

import dataclasses
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Check:
    """One check, JSON-able by `dataclasses.asdict`.

    Attributes:
        name: what is checked: "accuracy", "not_worse", "latency", ...
        passed: None where nothing was asked or nothing can be told; `said` tells why.
        said: a line for people, with figure and bound.
        slice: "attribute=value", of a check of a part of the test images; None where it is of all.
        figure: what was measured; None when it could not be.
        bound: what `figure` was held against; None when nothing was asked.
        details: what else the figure rests on.
    """

    name: str
    passed: bool | None
    said: str
    slice: str | None = None
    figure: float | None = None
    bound: float | None = None
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)


def failures(checks: Iterable[Check]) -> list[str]:
    """A line for each failed check; of slices that failed the same check, what it said of the worst, and the others'
    names.
    """
    failed = [check for check in checks if check.passed is False]
    lines = [check.said for check in failed if check.slice is None]
    for name in dict.fromkeys(check.name for check in failed if check.slice is not None):
        slices = [check for check in failed if check.slice is not None and check.name == name]
        first, *others = sorted(slices, key=lambda check: check.figure or 0.0)
        rest = f"; likewise {', '.join(str(check.slice) for check in others)}" if others else ""
        lines.append(first.said + rest)
    return lines
