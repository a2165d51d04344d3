"""What LabelAudit makes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kcnn.json_files import read_json
from kcnn.spreadsheets import write_csv
from pipelines.engine.component import Artifact

if TYPE_CHECKING:
    from kcnn.evaluation.label_errors import Audit, LabelError


class LabelErrors(Artifact):
    """Labels that are probably wrong. Nothing of it is applied to anything.

    <path>/label_errors.csv   rank, filename, split, given, suggested, score (the given label's probability), finding
                              (label_error, or doubt where it is less sure), exclude: a list to edit, this one empty
    <path>/report.html        one page with the pictures
    <path>/audit.json         images that were judged, label_errors, doubts; what judged them, and how well
    """

    editable = ("label_errors.csv",)
    head = "data"

    def write(self, audit: "Audit", seen_by: str, errors: Sequence["LabelError"], html: str) -> None:
        """Write an audit.

        Args:
            audit: its figures.
            seen_by: what saw the images, in words.
            errors: the labels, the most doubtful first.
            html: the page.
        """
        columns = ("filename", "split", "given", "suggested")
        rows = (
            [
                *(rank, *(getattr(error, column) for column in columns), f"{error.score:.6f}"),
                *("label_error" if error.wrong else "doubt", ""),
            ]
            for rank, error in enumerate(errors, start=1)
        )
        write_csv(self.table, ["rank", *columns, "score", "finding", "exclude"], rows)
        wrong = sum(error.wrong for error in errors)
        facts = {"images": audit.images, "label_errors": wrong, "doubts": len(errors) - wrong}
        judge = {"features": seen_by, "accuracy": audit.accuracy, "accuracy_trained": audit.accuracy_trained}
        (self.path / "audit.json").write_text(json.dumps({**facts, **judge}, indent=2) + "\n")
        self.page.write_text(html, encoding="utf-8")

    @property
    def table(self) -> Path:
        """The list to edit."""
        return self.path / "label_errors.csv"

    @property
    def page(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def properties(self) -> dict[str, Any]:
        """Return what audit.json holds."""
        return read_json(self.path / "audit.json")
