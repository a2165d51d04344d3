"""Pusher: the blessed model is published under the next version number, by a rename."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from kcnn.serving.export import write_card
from pipelines.artifacts import Examples, InfraBlessing, Model, ModelEvaluation, PushedModel
from pipelines.card import describe
from pipelines.component import Output, component


def next_version(folder: Path) -> int:
    """One more than the highest version in `folder`."""
    return 1 + max((int(entry.name) for entry in folder.glob("*") if entry.name.isdecimal()), default=0)


@component(cached=False)
def pusher(
    name: str,
    saved_models: str,
    record: dict[str, Any],
    examples: Examples,
    model: Model,
    evaluation: ModelEvaluation,
    blessing: InfraBlessing,
    pushed: Output[PushedModel],
) -> None:
    """Copies the export with its card and reports to `<saved_models>/<name>/<version>`."""
    folder = Path(saved_models, name)
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f".{os.getpid()}.partial"
    try:
        shutil.copytree(model.serving, staged)
        write_card(staged, describe(record, examples, model, evaluation, blessing))
        shutil.copytree(evaluation.report, staged / "assets.extra" / "evaluation")
        while True:
            version = folder / str(next_version(folder))
            try:
                staged.rename(version)
                break
            except OSError:
                if not version.exists():  # otherwise another run took the number first
                    raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    (pushed.path / "pushed.json").write_text(json.dumps({"version": str(version)}))
