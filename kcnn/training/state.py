"""What an interrupted run leaves behind: weights, optimizer and progress in one file, replaced by a rename.

The file is a safetensors file: it holds numbers and one JSON text, and loading it can run nothing.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import keras
from safetensors import safe_open
from safetensors.numpy import save_file


@dataclasses.dataclass
class Progress:
    """Where training stands between two epochs.

    Attributes:
        phase: index of the phase under way.
        epoch: the next epoch of that phase, from 0.
        best: (validation accuracy, -validation loss) of the best epoch so far, over all phases.
        best_in_phase: likewise, within the phase.
        waited: epochs since `best_in_phase`.
        history: one row of metrics per finished epoch.
    """

    phase: int = 0
    epoch: int = 0
    best: tuple[float, float] | None = None
    best_in_phase: tuple[float, float] | None = None
    waited: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def next_phase(self) -> None:
        """Moves to the start of the next phase."""
        self.phase, self.epoch, self.best_in_phase, self.waited = self.phase + 1, 0, None, 0


def _tensors(model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> dict[str, Any]:
    variables = {f"model/{i}": v for i, v in enumerate(model.variables)}
    if optimizer is not None:
        variables |= {f"optimizer/{i}": v for i, v in enumerate(optimizer.variables)}
    return variables


def save_state(
    path: Path, progress: Progress, model: keras.Model, optimizer: keras.optimizers.Optimizer | None
) -> None:
    """Writes the state; `path` holds the old one or the new one, never a part."""
    tensors = {name: keras.ops.convert_to_numpy(variable) for name, variable in _tensors(model, optimizer).items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"progress": json.dumps(dataclasses.asdict(progress))})
    os.replace(temporary, path)


def load_progress(path: Path) -> Progress:
    """How far the run that wrote `path` had come."""
    with safe_open(path, "numpy") as file:
        fields = json.loads(file.metadata()["progress"])
    for name in ("best", "best_in_phase"):
        fields[name] = fields[name] and tuple(fields[name])
    return Progress(**fields)


def load_state(path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> None:
    """Gives the model, and the optimizer where the file has one, the values they had."""
    with safe_open(path, "numpy") as file:
        names = set(file.keys())
        for name, variable in _tensors(model, optimizer).items():
            if name in names or name.startswith("model/"):
                variable.assign(file.get_tensor(name))
