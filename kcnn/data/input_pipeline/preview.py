"""A picture of a batch, as the network sees it: images with their labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_COLUMNS, _INCHES, _LINE = 6, 1.8, 0.25  # images in a row; the side of one, and the height of its label
_LETTERS, _NAMED = 24, 2  # of a label's line; classes that it names


def describe_label(shares: np.ndarray, names: Sequence[str]) -> str:
    """Return a label in words: the class, or the two largest with their shares, and how many more there are.

    Args:
        shares: float [C], of each class, one-hot or mixed.
        names: of the C classes.
    """
    order = [index for index in np.argsort(-shares, kind="stable") if shares[index] >= 0.005]
    if len(order) == 1:
        return _shortened(names[order[0]], _LETTERS)
    parts = [f"{_shortened(names[index], _LETTERS // 2 - 5)} {shares[index]:.2f}" for index in order[:_NAMED]]
    return " + ".join(parts) + (f" + {len(order) - _NAMED} more" if len(order) > _NAMED else "")


def _shortened(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def draw_batch(images: np.ndarray, labels: np.ndarray, names: Sequence[str], path: Path) -> None:
    """Draw images in rows of six, each under its label, and write the PNG.

    Args:
        images: float [B, h, w, 3] in 0-255; of them, an image's pixel is one of the drawing's or more.
        labels: float [B, C], one-hot or mixed.
        names: of the C classes.
        path: of the file.
    """
    rows = -(-len(images) // _COLUMNS)
    width, height = _COLUMNS * _INCHES, rows * (_INCHES + _LINE)
    figure = Figure(figsize=(width, height), dpi=max(100, round(1.1 * images.shape[2] / _INCHES)))
    FigureCanvasAgg(figure)
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(place, _COLUMNS)
        bottom = 1 - (row + 1) * (_INCHES + _LINE) / height
        axes = figure.add_axes((column / _COLUMNS + 0.003, bottom, 1 / _COLUMNS - 0.006, _INCHES / height))
        axes.imshow(np.clip(np.round(image), 0, 255).astype(np.uint8), interpolation="nearest")
        axes.set_axis_off()
        # A dollar sign would begin a formula.
        axes.set_title(describe_label(label, names), size=7, pad=2, parse_math=False)
    figure.savefig(path)
