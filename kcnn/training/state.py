"""What an interrupted run goes on from: weights, optimizer and progress in one file, replaced by a rename.

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
        phase: index of the phase under way; the number of phases when training is finished.
        epoch: the next epoch of that phase, from 0.
        best: (validation accuracy, -validation loss) of the weights that the phases so far have left.
        best_in_phase: the same, of the best epoch of the phase under way.
        waited: epochs since `best_in_phase`.
        seconds: how long training has taken, in all processes that took part in it.
        history: one row of metrics per finished epoch.
        phases: one row for each phase that has ended: its name, what it brought, and which weights were kept: those of
            its "best" epoch (of the first phase) or its "last" (of others), those "before" it, or the "mean" of these.
        preprocess: facts about the preprocessing that was fitted, as `fit_preprocessing` returns them.
    """

    phase: int = 0
    epoch: int = 0
    best: tuple[float, float] | None = None
    best_in_phase: tuple[float, float] | None = None
    waited: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    phases: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    preprocess: dict[str, Any] | None = None

    def record_epoch(self, score: tuple[float, float], row: dict[str, Any]) -> bool:
        """Count a finished epoch, and return whether it is the best of its phase.

        Args:
            score: (validation accuracy, -validation loss); higher is better.
            row: the epoch's metrics, for the history.
        """
        self.epoch += 1
        self.history.append({"phase": self.phase, "epoch": self.epoch, **row})
        improved = self.best_in_phase is None or score > self.best_in_phase
        if improved:
            self.best_in_phase, self.waited = score, 0
        else:
            self.waited += 1
        return improved

    def phase_is_over(self, epochs: int, patience: int) -> bool:
        """Return whether the phase has had its epochs, or has waited for a better one as long as patience allows."""
        return self.epoch >= epochs or self.waited >= patience

    def start_next_phase(self, row: dict[str, Any], score: tuple[float, float] | None) -> None:
        """Move to the start of the next phase.

        Args:
            row: what the phase brought.
            score: of the weights that are kept, as `record_epoch` takes it.
        """
        self.phases.append(row)
        self.best, self.best_in_phase = score, None
        self.phase, self.epoch, self.waited = self.phase + 1, 0, 0


def _variables(model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> dict[str, keras.Variable]:
    variables = {f"model/{i}": variable for i, variable in enumerate(model.variables)}
    if optimizer is not None:
        variables |= {f"optimizer/{i}": variable for i, variable in enumerate(optimizer.variables)}
    return variables


def save_state(
    path: Path, progress: Progress, model: keras.Model, optimizer: keras.optimizers.Optimizer | None
) -> None:
    """Write the state to `path`, which holds the old one or the new one at any time, never a part.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {name: keras.ops.convert_to_numpy(variable) for name, variable in _variables(model, optimizer).items()}
    temporary = path.with_suffix(".tmp")
    save_file(tensors, temporary, metadata={"progress": json.dumps(dataclasses.asdict(progress))})
    os.replace(temporary, path)


def load_progress(path: Path) -> Progress:
    """Return the progress of the run that wrote `path`."""
    with safe_open(path, "numpy") as file:
        fields = json.loads(file.metadata()["progress"])
    for name in ("best", "best_in_phase"):
        fields[name] = fields[name] and tuple(fields[name])
    return Progress(**fields)


def load_state(path: Path, model: keras.Model, optimizer: keras.optimizers.Optimizer | None) -> None:
    """Give the model, and the optimizer where the file has one, the values that they had."""
    with safe_open(path, "numpy") as file:
        names = set(file.keys())
        for name, variable in _variables(model, optimizer).items():
            if name in names or name.startswith("model/"):
                variable.assign(file.get_tensor(name))
