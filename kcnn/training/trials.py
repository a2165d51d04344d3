"""The trials of a search for hyperparameters: their journal, their table and their picture."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kcnn.spreadsheets import write_csv
from kcnn.training.hyperparameters import SearchSpace, Values


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training with values of its own.

    Attributes:
        number: from 1; the first trial has the recipe's own values.
        values: by the hyperparameter's name.
        scores: the validation accuracy after each epoch, from 0 to 1.
        ending: "finished"; "stopped", since half of the trials were better by then; or "failed", since the loss
            diverged or the memory did not suffice.
        seconds: the time that it took.
    """

    number: int
    values: Values
    scores: Sequence[float]
    ending: str
    seconds: float

    @property
    def score(self) -> float:
        """The best epoch's validation accuracy; 0 where no epoch was finished."""
        return max(self.scores, default=0.0)

    def message(self, count: int, best: "Trial", left: float) -> str:
        """Return a line about the trial.

        Args:
            count: trials of the search.
            best: the best trial so far.
            left: seconds that the other trials will take.
        """
        ending = "" if self.ending == "finished" else f", {self.ending}"
        ending += f" after {len(self.scores)} epoch{'s' * (len(self.scores) != 1)}" * (self.ending == "stopped")
        ending += "; the best so far" if best == self else f"; the best is trial {best.number}'s {best.score:.2%}"
        rest = f"; about {math.ceil(left / 60)} min left" if left else ""
        return f"Trial {self.number} of {count}: {self.score:.2%}{ending}{rest}: {describe_values(self.values)}"


def describe_values(values: Values) -> str:
    """Return names and values as one line."""
    return ", ".join(f"{name} {value or repr(value)}" for name, value in values.items())


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the highest score, the first of several."""
    return max(trials, key=lambda trial: trial.score)


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials to `path`, a JSON line each; the file holds the old ones or the new ones, never a part."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(dataclasses.asdict(trial)) + "\n" for trial in trials), encoding="utf-8")
    os.replace(temporary, path)


def read_trials(path: Path) -> list[Trial]:
    """Read the trials that `write_trials` wrote; there are none where there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Trial(**json.loads(line)) for line in lines]


def write_trials_table(path: Path, trials: Sequence[Trial]) -> None:
    """Write trials as a CSV, a row each: number, validation accuracy, ending, epochs, seconds, values."""
    names = list(trials[0].values)
    write_csv(
        path,
        ["trial", "validation_accuracy", "ending", "epochs", "seconds", *names],
        (
            [
                *(trial.number, f"{trial.score:.6f}", trial.ending, len(trial.scores), f"{trial.seconds:.1f}"),
                *(trial.values[name] for name in names),
            ]
            for trial in trials
        ),
    )


def plot_trials(path: Path, trials: Sequence[Trial], space: SearchSpace) -> None:
    """Draw the score against each hyperparameter as a PNG, over the whole range that is searched."""
    columns = min(3, len(space))
    rows = math.ceil(len(space) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    winner, own = best_trial(trials), trials[0]
    lowest = min(trial.score for trial in trials if trial.scores)  # where failures are drawn
    groups = [([trial for trial in trials[1:] if trial.ending == ending], mark) for ending, mark in _MARKS.items()]
    groups += [([own], _OWN), ([winner], _BEST)]
    for panel, (name, where) in zip(panels.flat, space.items(), strict=False):
        for found, mark in groups:
            values = [trial.values[name] for trial in found]
            if isinstance(where, tuple):
                places = [where.index(value) for value in values]
            else:
                places = [max(value, where.low) for value in values]  # a recipe's 0 has no logarithm
            if found:
                panel.scatter(places, [max(trial.score, lowest) for trial in found], **mark)
        if isinstance(where, tuple):
            panel.set_xticks(range(len(where)), [str(choice).replace(",", "\n") or "none" for choice in where])
            panel.set_xlim(-0.5, len(where) - 0.5)
        elif where.log:
            panel.set_xscale("log")
            panel.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 3), numticks=20))
            panel.xaxis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
            panel.xaxis.set_minor_locator(ticker.NullLocator())
            panel.set_xlim(where.low / 1.2, where.high * 1.2)
        else:
            margin = 0.05 * (where.high - where.low)
            panel.set_xlim(where.low - margin, where.high + margin)
            panel.xaxis.set_major_locator(ticker.MaxNLocator(5))
        panel.set_xlabel(name)
        panel.tick_params(axis="x", labelsize=7)
        panel.grid(alpha=0.3)
    for first in panels[:, 0]:
        first.set_ylabel("validation accuracy")
        first.yaxis.set_major_formatter(ticker.PercentFormatter(1.0))
    for panel in panels.flat[len(space) :]:
        panel.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2 * columns, frameon=False)
    figure.savefig(path)


_MARKS: dict[str, dict[str, Any]] = {
    ending: {"label": ending, "s": 36, "zorder": 2, **mark}
    for ending, mark in {
        "finished": {"color": "#1f6fb4"},
        "stopped": {"facecolors": "none", "edgecolors": "#1f6fb4"},
        "failed": {"color": "#777777", "marker": "x"},
    }.items()
}
_OWN: dict[str, Any] = {"label": "the recipe's own", "s": 56, "zorder": 3, "marker": "D", "color": "#d98200"}
_BEST: dict[str, Any] = {
    "label": "the best",
    "s": 190,
    "zorder": 4,
    "facecolors": "none",
    "edgecolors": "#c0202b",
    "linewidths": 1.8,
}
