"""The files of an evaluation: figures, tables and the picture of the confusion matrix."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager, ft2font
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from kcnn.evaluation.evaluate import Evaluation
from kcnn.evaluation.metrics import classification_metrics, expected_calibration_error
from kcnn.evaluation.slices import SMALLEST, slice_rows
from kcnn.spreadsheets import write_csv

COUNTS_UP_TO = 20  # classes: with more, the counts do not fit into the cells
NAMES_UP_TO = 100  # classes: with more, not every name fits beside its row
NAME_LENGTH = 28
# The installed ones are tried in this order for every letter; DejaVu comes with matplotlib.
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Arial Unicode MS", "Microsoft YaHei")


def write_evaluation(directory: str | os.PathLike[str], evaluation: Evaluation, seed: int = 0) -> dict[str, Any]:
    """Write the files of an evaluation, and return its figures.

    metrics.json: the figures.
    slices.csv: examples, right answers, and accuracy with its interval; for each class, size, format, ...
    per_class.csv: support, and precision and recall with their intervals, and F1; empty where undefined.
    confusion_matrix.csv: counts, rows are labels and columns answers, with the names as index and header.
    confusion_matrix.png: the same as a picture.
    predictions.csv: filename, label, predicted, probability of the predicted; one line per example.

    Args:
        directory: made when missing.
        evaluation: N ≥ 1 answers.
        seed: of the bootstrap.

    Returns:
        the figures of `classification_metrics`; `expected_calibration_error_before`, what it would be without the
        export's temperature; and `slices`, the rows of `slice_rows`.
    """
    directory, names = Path(directory), evaluation.class_names
    metrics, matrix = classification_metrics(evaluation.labels, evaluation.probabilities, names, seed)
    if evaluation.uncalibrated is not None:
        error = expected_calibration_error(evaluation.correct, evaluation.uncalibrated)
        metrics["expected_calibration_error_before"] = error
    metrics["slices"] = slice_rows(evaluation.attributes, evaluation.correct)
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metrics, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (directory / "metrics.json").write_text(text + "\n", encoding="utf-8")
    write_csv(
        directory / "per_class.csv",
        [
            "class",
            "support",
            *(f"{figure}{end}" for figure in ("precision", "recall") for end in ("", "_low", "_high")),
            "f1",
        ],
        (
            [row["class"], row["support"], *_interval(row["precision"]), *_interval(row["recall"]), row["f1"]]
            for row in metrics["per_class"]
        ),
    )
    write_csv(
        directory / "slices.csv",
        ["slice", "value", "examples", "correct", "accuracy", "accuracy_low", "accuracy_high", "note"],
        (
            [
                *(row[name] for name in ("attribute", "value", "examples", "correct")),
                *_interval(row["accuracy"]),
                "" if row["judged"] else f"too few to tell (fewer than {SMALLEST})",
            ]
            for row in metrics["slices"]
        ),
    )
    write_csv(
        directory / "confusion_matrix.csv",
        ["label", *names],
        ([name, *counts] for name, counts in zip(names, matrix.tolist(), strict=True)),
    )
    answers = evaluation.probabilities.argmax(axis=1)
    best = evaluation.probabilities.max(axis=1)
    write_csv(
        directory / "predictions.csv",
        ["filename", "label", "predicted", "probability"],
        (
            [filename, names[label], names[answer], f"{probability:.6f}"]
            for filename, label, answer, probability in zip(
                evaluation.filenames, evaluation.labels, answers, best, strict=True
            )
        ),
    )
    plot_confusion_matrix(directory / "confusion_matrix.png", matrix, names)
    return metrics


def _interval(figure: dict[str, float] | None) -> list[float | None]:
    return [figure["value"], figure["low"], figure["high"]] if figure else [None, None, None]


def plot_confusion_matrix(path: str | os.PathLike[str], matrix: np.ndarray, class_names: Sequence[str]) -> None:
    """Draw a confusion matrix as a PNG, coloured by the share of each row.

    With up to 20 classes the counts are written in. With more, the colour is that of the share's square root, which
    keeps small shares visible; with more than 100, only every so-many-th class is named. Long names lose their middle,
    and a name that no installed font can write becomes "class <index>".

    Args:
        path: the PNG.
        matrix: int [C, C], rows are labels, columns answers.
        class_names: the C names.
    """
    size = len(class_names)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    inches = np.clip(size * (0.5 if size <= COUNTS_UP_TO else 0.16), 3.0, 16.0)
    installed = set(font_manager.get_font_names())
    fonts = [font for font in FONTS if font in installed]
    style: dict[str, Any] = {"family": fonts, "size": 9 if size <= COUNTS_UP_TO else 6}

    figure = Figure(figsize=(inches, inches), dpi=150)
    FigureCanvasAgg(figure)
    # Axes of a fixed size: `bbox_inches="tight"` below gives the names the room they need around it.
    axes = figure.add_axes((0, 0, 1, 1))
    norm = PowerNorm(1.0 if size <= COUNTS_UP_TO else 0.5, vmin=0, vmax=1)
    image = axes.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
    bar = figure.colorbar(image, cax=figure.add_axes((1 + 0.2 / inches, 0, 0.15 / inches, 1)))
    bar.ax.tick_params(labelsize=8)
    bar.set_label("share of the label's images", size=9)
    ticks = range(0, size, -(-size // NAMES_UP_TO))
    names = _writable(class_names, fonts)
    shown = [names[tick] for tick in ticks]
    upright = max(map(len, shown)) <= 3 and size <= COUNTS_UP_TO
    turn: dict[str, Any] = {} if upright else {"rotation": 90}
    axes.set_xticks(ticks, shown, parse_math=False, **style, **turn)
    axes.set_yticks(ticks, shown, parse_math=False, **style)
    axes.set_xlabel("answer", size=11)
    axes.set_ylabel("label", size=11)
    if size <= COUNTS_UP_TO:
        for (row, column), count in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black" if count else "lightgrey"
            axes.text(column, row, str(count), ha="center", va="center", color=colour, size=9)
    figure.savefig(path, bbox_inches="tight", pad_inches=0.1)


def _writable(names: Sequence[str], fonts: Sequence[str]) -> list[str]:
    """Return names that are short enough to stand beside a row, in letters that the fonts have."""
    letters: set[int] = set()
    for font in fonts:
        letters |= ft2font.FT2Font(font_manager.findfont(font)).get_charmap().keys()
    half = NAME_LENGTH // 2
    short = [name if len(name) <= NAME_LENGTH else f"{name[:half]}…{name[1 - half :]}" for name in names]
    return [name if letters.issuperset(map(ord, name)) else f"class {index}" for index, name in enumerate(short)]
