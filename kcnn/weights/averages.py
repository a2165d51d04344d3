"""The mean of several files of weights: checkpoints of one training, or trainings from the same start."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kcnn.errors import UserError


def average_files(paths: Sequence[Path], target: Path) -> None:
    """Write the mean of the weights in `paths` to `target`, whole or not at all.

    Every tensor is averaged, the statistics of batch norm too, in float64, one tensor at a time. Sources: Vaswani et
    al., NeurIPS 2017, section 6.1 (checkpoints of one training); Wortsman et al., "Model soups", ICML 2022 (several).

    Args:
        paths: files that `kcnn.save_weights` wrote, of one network, 2 or more.
        target: a new `.safetensors` file.

    Raises:
        UserError: a file cannot be read, or two are for different networks.
        OSError: `target` cannot be written.
    """
    try:
        files = [safe_open(path, "numpy") for path in paths]
        shapes = [{key: tuple(file.get_slice(key).get_shape()) for key in file.keys()} for file in files]  # noqa: SIM118
        described = [(file.metadata() or {}).get("layers") for file in files]
        for path, shape, layers in zip(paths, shapes, described, strict=True):
            if (shape, layers) != (shapes[0], described[0]):
                raise UserError(f"{path}: weights for another network than those of {paths[0]}")
        means = {key: _mean([file.get_tensor(key) for file in files]) for key in shapes[0]}
    except (SafetensorError, OSError) as error:
        raise UserError(f"weights cannot be averaged: {error}: expected .safetensors files of one network") from error
    temporary = target.with_name(f"{target.name}.partial")
    save_file(means, temporary, metadata={"layers": described[0]} if described[0] else None)
    os.replace(temporary, target)


def _mean(values: list[np.ndarray]) -> np.ndarray:
    return np.mean([value.astype(np.float64) for value in values], axis=0).astype(values[0].dtype)
