"""What ImageScan and DataReport make."""

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kcnn.json_files import read_json
from kcnn.spreadsheets import write_csv
from pipelines.engine.component import Artifact

if TYPE_CHECKING:
    from kcnn.data.scan.findings import Scan


class Findings(Artifact):
    """What a scan of the images found. Nothing of it is applied to anything.

    <path>/findings.jsonl   a finding a line: finding, filenames, splits, labels, value, threshold, how
    <path>/exclusions.csv   group (a number for the copies of one picture), split, label, value, filename, finding,
                            exclude: a list to edit, the last column empty, of images in the examples
    <path>/scan.json        images: how many were looked at; usual: finding → images, where most show it
    """

    editable = ("exclusions.csv",)
    head = "data"

    def write(self, scan: "Scan") -> None:
        """Write what a scan found."""
        lines = [json.dumps(dataclasses.asdict(finding)) + "\n" for finding in scan.findings]
        (self.path / "findings.jsonl").write_text("".join(lines))
        groups = scan.groups()
        rows = (
            [groups.get(finding, ""), split, label, finding.value, name, finding.finding, ""]
            for finding in scan.findings
            # What has no split is not in the examples.
            for split, label, name in zip(finding.splits, finding.labels, finding.filenames, strict=False)
        )
        write_csv(self.exclusions, ["group", "split", "label", "value", "filename", "finding", "exclude"], rows)
        facts = {"images": scan.images, "usual": scan.usual}
        (self.path / "scan.json").write_text(json.dumps(facts, indent=2) + "\n")

    def read(self) -> "Scan":
        """Read what a scan found."""
        from kcnn.data.scan.findings import Finding, Scan

        facts = read_json(self.path / "scan.json")
        rows = map(json.loads, (self.path / "findings.jsonl").read_text().splitlines())
        lists = ("filenames", "splits", "labels")
        findings = (Finding(**{**row, **{name: tuple(row[name]) for name in lists}}) for row in rows)
        return Scan(findings=tuple(findings), **facts)

    @property
    def exclusions(self) -> Path:
        """The list to edit."""
        return self.path / "exclusions.csv"

    def properties(self) -> dict[str, Any]:
        """Return images, and how often each finding was made."""
        scan = self.read()
        return {"images": scan.images, "findings": Counter(finding.finding for finding in scan.findings)}


class DataPage(Artifact):
    """What a data set is like, for people.

    <path>/report.html   one page with its pictures
    """

    @property
    def page(self) -> Path:
        """The file."""
        return self.path / "report.html"

    def write(self, html: str) -> None:
        """Write the page."""
        self.page.write_text(html, encoding="utf-8")
