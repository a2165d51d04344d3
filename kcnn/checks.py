"""The checks of a gate: what was measured, the bound, and the verdict."""

import dataclasses
from collections.abc import Iterable, Mapping


@dataclasses.dataclass(frozen=True)
class Check:
    """A check of a gate, JSON-able by `dataclasses.asdict`.

    Attributes:
        name: the measurement: "accuracy", "not_worse", "latency", ...
        passed: the verdict; None without a bound or without a figure, with the reason in `said`.
        said: the message, a line with figure and bound.
        slice: "attribute=value", the part of the test images that is checked; None for all of them.
        figure: the measured value; None when there is none.
        bound: the value that `figure` is compared with; None for no bound.
        details: further values that the figure depends on.
    """

    name: str
    passed: bool | None
    said: str
    slice: str | None = None
    figure: float | None = None
    bound: float | None = None
    details: Mapping[str, float] = dataclasses.field(default_factory=dict)


def failures(checks: Iterable[Check]) -> list[str]:
    """Return a line for each failed check.

    Slices that failed the same check share one line: the message of the worst, and the names of the others.
    """
    failed = [check for check in checks if check.passed is False]
    lines = [check.said for check in failed if check.slice is None]
    for name in dict.fromkeys(check.name for check in failed if check.slice is not None):
        slices = [check for check in failed if check.slice is not None and check.name == name]
        first, *others = sorted(slices, key=lambda check: check.figure or 0.0)
        rest = f"; likewise {', '.join(str(check.slice) for check in others)}" if others else ""
        lines.append(first.said + rest)
    return lines
