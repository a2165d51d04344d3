"""What Gate and InfraValidator make: verdicts."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from kcnn.checks import Check
from kcnn.json_files import read_json
from pipelines.engine.component import Artifact

VERDICTS = {"passed": True, "failed": False, "not judged": None}


class Blessing(Artifact):
    """The verdict of a gate, as TFX writes it, and what it rests on.

    <path>/<prefix>BLESSED or <path>/<prefix>NOT_BLESSED   empty
    <path>/checks.json                                     facts, and every check: name, slice, figure, bound, verdict
    """

    head = "metrics"
    prefix: ClassVar[str] = ""

    def write(self, checks: Sequence[Check], facts: Mapping[str, Any]) -> None:
        """Bless unless a check failed, and write why."""
        blessed = all(check.passed is not False for check in checks)
        content = {**facts, "blessed": blessed, "checks": list(map(dataclasses.asdict, checks))}
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        (self.path / "checks.json").write_text(text + "\n", encoding="utf-8")
        (self.path / f"{self.prefix}{'' if blessed else 'NOT_'}BLESSED").touch()

    def blessed(self) -> bool:
        """Return whether no check failed."""
        return (self.path / f"{self.prefix}BLESSED").exists()

    def facts(self) -> dict[str, Any]:
        """Read checks.json, but for the checks."""
        return {name: value for name, value in self._content().items() if name != "checks"}

    def checks(self) -> list[Check]:
        """Read all checks."""
        return [Check(**fields) for fields in self._content()["checks"]]

    def _content(self) -> dict[str, Any]:
        return read_json(self.path / "checks.json")

    def properties(self) -> dict[str, Any]:
        """Return the verdict, the facts, what each check says of all images, and the slices that did not pass."""
        checks = self.checks()
        slices = {name: [c.slice for c in checks if c.slice and c.passed is v] for name, v in VERDICTS.items()}
        return {
            **self.facts(),
            "blessed": int(self.blessed()),
            "checks": {check.name: check.said for check in checks if check.slice is None},
            "slices_passed": len(slices["passed"]),
            "slices_failed": slices["failed"],
            "slices_not_judged": slices["not judged"],
        }


class ModelBlessing(Blessing):
    """That the model is good enough, and not worse than the last that was pushed.

    <path>/BLESSED or <path>/NOT_BLESSED   empty
    <path>/checks.json                     baseline, warnings, and every check
    """

    shown = ("blessed", "baseline")


class InfraBlessing(Blessing):
    """That the export serves in a program of its own as it did in the evaluation, quickly and in little memory.

    <path>/INFRA_BLESSED or <path>/INFRA_NOT_BLESSED   empty
    <path>/checks.json                                 latency, memory, signatures, and every check
    """

    prefix = "INFRA_"
    shown = ("blessed", "latency_ms", "memory_mb")
