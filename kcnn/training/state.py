"""What an interrupted run goes on from: weights, optimizer, metrics and progress in one file, replaced by a rename.

The file is a safetensors file: it holds numbers and one JSON text, and loading it can run nothing. The one before it is
kept. Where the last is damaged, which its checksum tells, the run goes on from that.
"""

import dataclasses
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kcnn.errors import UserError
from kcnn.terminal import print_lines


@dataclasses.dataclass
class Progress:
    """Where training stands between two steps.

    Attributes:
        phase: index of the phase under way; the number of phases when training is finished.
        epoch: the epoch of that phase under way, from 0.
        step: the steps of that epoch that are done.
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
    step: int = 0
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
        self.epoch, self.step = self.epoch + 1, 0
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
        self.phase, self.epoch, self.step, self.waited = self.phase + 1, 0, 0, 0


def save_state(path: Path, progress: Progress, variables: Mapping[str, Sequence[keras.Variable]]) -> None:
    """Write the state to `path`, and keep what was there beside it. At any time, one of the two is whole.

    Args:
        path: the file.
        progress: where training stands.
        variables: kind → variables, always in the same order.

    Raises:
        OSError: the file cannot be written.
    """
    tensors = {name: keras.ops.convert_to_numpy(variable) for name, variable in _named(variables).items()}
    temporary = path.with_suffix(".tmp")
    told = {"progress": json.dumps(dataclasses.asdict(progress)), "crc32": str(_checksum(tensors))}
    save_file(tensors, temporary, metadata=told)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    if path.exists():
        os.replace(path, _before(path))
    os.replace(temporary, path)


def load_progress(path: Path) -> Progress | None:
    """Return the progress of the last whole state that was written to `path`, and leave that there; None without any.

    Raises:
        UserError: states are there, and none is whole.
    """
    found = [each for each in (path, _before(path)) if each.exists()]
    for each in found:
        try:
            progress = _read_progress(each)
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            damage = f"{each}: damaged: {error}"
            continue
        if each != path:
            if path.exists():
                print_lines(f"{damage}; going on from the state before it")
            os.replace(each, path)
        return progress
    if found:
        raise UserError(f"{damage}; --noresume begins anew")
    return None


def load_state(path: Path, variables: Mapping[str, Sequence[keras.Variable]]) -> None:
    """Give the variables of each kind the values that they had, where the file has this kind."""
    with safe_open(path, "numpy") as file:
        names = set(file.keys())
        for name, variable in _named(variables).items():
            if name in names:
                variable.assign(file.get_tensor(name))


def _before(path: Path) -> Path:
    """Return where the state is that was written before the one at `path`."""
    return path.with_stem(f"{path.stem}-before")


def _named(variables: Mapping[str, Sequence[keras.Variable]]) -> dict[str, keras.Variable]:
    return {f"{kind}/{i}": variable for kind, found in variables.items() for i, variable in enumerate(found)}


def _checksum(tensors: Mapping[str, np.ndarray]) -> int:
    """Return the CRC-32 of all numbers, in the order of their names."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].tobytes(), found)
    return found


def _read_progress(path: Path) -> Progress:
    """Return the progress in a state.

    Raises:
        SafetensorError: it is no safetensors file.
        ValueError: its numbers are not those that were written, or its progress is no JSON.
        TypeError, KeyError: its progress is not of this version.
    """
    with safe_open(path, "numpy") as file:
        told = file.metadata() or {}
        if told["crc32"] != str(_checksum({name: file.get_tensor(name) for name in file.keys()})):  # noqa: SIM118
            raise ValueError("its numbers are not those that were written")
    fields = json.loads(told["progress"])
    for name in ("best", "best_in_phase"):
        fields[name] = fields[name] and tuple(fields[name])
    return Progress(**fields)
