"""The trials of a search for hyperparameters: kept as they finish, and told as a table and a picture."""

import csv
import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kcnn.training.hyperparameters import Ranges


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training with values of its own.

    Attributes:
        number: from 1; the first has the recipe's own values.
        values: by the hyperparameter's name.
        scores: the validation accuracy after each epoch, from 0 to 1.
        ending: "finished"; "stopped", since half of the trials were better by then; or "failed", since the loss
            diverged or the memory did not suffice.
        seconds: that it took.
    """

    number: int
    values: Mapping[str, Any]
    scores: Sequence[float]
    ending: str
    seconds: float

    @property
    def score(self) -> float:
        """The best epoch's; 0 where none was finished."""
        return max(self.scores, default=0.0)

    def told(self, count: int, best: "Trial", left: float) -> str:
        """A line for people, of trial `number` of `count`, with `left` seconds for the rest."""
        ending = "" if self.ending == "finished" else f", {self.ending}"
        ending += f" after {len(self.scores)} epoch{'s' * (len(self.scores) != 1)}" * (self.ending == "stopped")
        ending += "; the best so far" if best == self else f"; the best is trial {best.number}'s {best.score:.2%}"
        rest = f"; about {math.ceil(left / 60)} min left" if left else ""
        return f"Trial {self.number} of {count}: {self.score:.2%}{ending}{rest}: {in_words(self.values)}"


def in_words(values: Mapping[str, Any]) -> str:
    """Name and value, one behind the other."""
    return ", ".join(f"{name} {value or repr(value)}" for name, value in values.items())


def best(trials: Sequence[Trial]) -> Trial:
    """That with the highest score, the first of several."""
    return max(trials, key=lambda trial: trial.score)


def write(path: Path, trials: Sequence[Trial]) -> None:
    """Keeps trials, a line each; `path` holds the old ones or the new ones, never a part."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(dataclasses.asdict(trial)) + "\n" for trial in trials), encoding="utf-8")
    os.replace(temporary, path)


def read(path: Path) -> list[Trial]:
    """Those that `write` kept; none where there is no such file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Trial(**json.loads(line)) for line in lines]


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    """A CSV, a trial a row."""
    names = list(trials[0].values)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "validation_accuracy", "ending", "epochs", "seconds", *names])
        for trial in trials:
            values = [trial.values[name] for name in names]
            writer.writerow(
                [trial.number, f"{trial.score:.6f}", trial.ending, len(trial.scores), f"{trial.seconds:.1f}", *values]
            )


def plot(path: Path, trials: Sequence[Trial], ranges: Ranges) -> None:
    """Draws the score against each hyperparameter as a PNG, over all of the range that is searched."""
    columns = min(3, len(ranges))
    rows = math.ceil(len(ranges) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.1 * rows + 0.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    winner, own = best(trials), trials[0]
    lowest = min(trial.score for trial in trials if trial.scores)  # where failures are drawn
    groups = [([trial for trial in trials[1:] if trial.ending == ending], mark) for ending, mark in _MARKS.items()]
    groups += [([own], _OWN), ([winner], _BEST)]
    for panel, (name, where) in zip(panels.flat, ranges.items(), strict=False):
        for found, mark in groups:
            values = [trial.values[name] for trial in found]
            places = [where.index(value) for value in values] if isinstance(where, tuple) else values
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
    for panel in panels.flat[len(ranges) :]:
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
