"""Starter weights: backbones that ship with the project, made without anyone's photos.

`starters/<model>.safetensors` is what `python main.py pretrain` made, in float16 and without the classifier;
`starters/<model>.json` says by which command, from which data, on what, and its checksum.
"""

import hashlib
import json
import os
from pathlib import Path

import keras
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from kcnn.errors import UserError
from kcnn.weights.copy import LoadReport
from kcnn.weights.designs import ARITHMETIC, check_default_design, describe_layers
from kcnn.weights.files import load_file, weight_key

STARTERS = Path(__file__).with_name("starters")


def architecture(model: keras.Model) -> str:
    """Return a digest of what `model` computes up to its head, whatever the weights, the image size, the drop rates."""
    layers = []
    for layer in model.layers:
        if not isinstance(layer, keras.layers.Dropout | keras.layers.InputLayer) and not layer.name.startswith("head_"):
            config = layer.get_config()
            layers.append([layer.name, *(config.get(key) for key in ARITHMETIC)])
    return hashlib.sha256(json.dumps(layers).encode()).hexdigest()[:16]


def save_backbone(model: keras.Model, path: Path) -> None:
    """Write the weights of `model` but those of its head to a file, in float16, whole or not at all.

    What is fitted to pixels stays in float32: a mean of 200 is known to 0.06 in float16.

    Raises:
        ValueError: float16 cannot hold a weight.
    """
    tensors = {}
    for layer in model.layers:
        for variable in [] if layer.name.startswith("head_") else layer.weights:
            kept = np.float32 if layer.name.startswith("preprocess_") else np.float16
            with np.errstate(over="ignore"):  # checked below
                stored = keras.ops.convert_to_numpy(variable).astype(kept)
            if not np.isfinite(stored).all():
                raise ValueError(f"{weight_key(layer, variable)} holds what float16 cannot")
            tensors[weight_key(layer, variable)] = stored
    temporary = path.with_name(path.name + ".partial")
    # One key: safetensors writes several in an order that differs from run to run, and equal weights are equal bytes.
    save_file(tensors, temporary, metadata={"layers": json.dumps(describe_layers(model))})
    os.replace(temporary, path)


def find_starter(name: str) -> Path | None:
    """Return the file of an architecture's starter weights; None where it has none."""
    path = STARTERS / f"{name}.safetensors"
    return path if path.is_file() else None


def load_starter(model: keras.Model) -> LoadReport:
    """Give `model` its starter weights, as `kcnn.load_weights(model, "starter")` does.

    Raises:
        UserError: there are none, or they are for another design.
    """
    path = find_starter(model.name)
    if path is None:
        known = ", ".join(sorted(file.stem for file in STARTERS.glob("*.safetensors")))
        raise UserError(
            f"starter weights of {model.name}: there are none; those of {known} ship with the project, others are a "
            "`python main.py pretrain` away"
        )
    check_default_design(model, f"starter weights of {model.name}")
    with safe_open(path, "numpy") as file:
        wanted = file.metadata().get("architecture")  # of files that do not describe their layers
    if wanted not in (None, architecture(model)):
        raise UserError(f"starter weights of {model.name}: they are for its default design, and this is another")
    return load_file(model, path)
