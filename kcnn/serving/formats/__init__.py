"""An export's network in the formats of other runtimes, each a folder in the version's `assets.extra`.

Each takes `images`, RGB of 0 to 255 as the export's preprocessing leaves them, [N, h, w, 3], float32 (tflite-int8:
uint8); answers `probabilities` float32 [N, C], `logits` float32 [N, C] and `embedding` float32 [N, D], in this order;
and holds the metadata of the export.

source.py     what all are made of: the network in float32, folded, with temperature and softmax behind it
onnx.py, openvino.py, tflite.py, tfjs.py   a family each: `write` and `load`
parity.py     whether they answer held-out files as the evaluation did
answers.py    the program of its own that asks them
"""

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kcnn.errors import UserError, nearest

OUTPUTS = ("probabilities", "logits", "embedding")


@dataclasses.dataclass(frozen=True)
class Format:
    """A row of FORMATS.

    Attributes:
        path: the file that a runtime is given, below the version's folder.
        module: of this package, what writes it and runs it: `write(name, source, file)` makes the file, its folder
            being there, and raises UserError for a network that the format cannot hold; `load(file)` gives a function
            from float32 [N, h, w, 3] to a dict of the outputs. "" where `kcnn.serving.export.classifier` does.
        packages: what writing it imports, beyond what kcnn needs.
        runtime: what running it here imports, beyond what kcnn needs.
        calibrated: whether it takes training images to find the ranges of activations.
    """

    path: str
    module: str
    packages: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    calibrated: bool = False

    def file(self, version: Path) -> Path:
        """Where it lies in a version's folder."""
        return version / self.path

    def family(self) -> Any:
        """`module`, imported."""
        return importlib.import_module(f"{__name__}.{self.module}")


_LITERT = ("ai_edge_litert",)
FORMATS = {
    "savedmodel": Format("saved_model.pb", module=""),
    "onnx": Format("assets.extra/onnx/model.onnx", "onnx", ("onnx", "tf2onnx"), ("onnxruntime",)),
    "openvino": Format("assets.extra/openvino/model.xml", "openvino", ("openvino",), ("openvino",)),
    "tflite-float16": Format("assets.extra/tflite-float16/model.tflite", "tflite", runtime=_LITERT),
    "tflite-dynamic": Format("assets.extra/tflite-dynamic/model.tflite", "tflite", runtime=_LITERT),
    "tflite-int8": Format("assets.extra/tflite-int8/model.tflite", "tflite", runtime=_LITERT, calibrated=True),
    "tfjs": Format("assets.extra/tfjs/model.json", "tfjs"),
}


def choose(names: Iterable[str]) -> tuple[str, ...]:
    """The formats of these names, each once, in the order of FORMATS, "savedmodel" among them in any case.

    Raises:
        UserError: an unknown name, or packages that writing one of them needs are missing.
    """
    names = list(names)
    for name in names:
        if name not in FORMATS:
            raise UserError(f"format {name!r}: {nearest(name, FORMATS)}")
    chosen = tuple(name for name in FORMATS if name in names or name == "savedmodel")
    _check_installed({name: FORMATS[name].packages for name in chosen}, "writing")
    return chosen


def present(version: Path) -> tuple[str, ...]:
    """The formats that a version's folder holds, in the order of FORMATS."""
    return tuple(name for name, row in FORMATS.items() if row.file(version).is_file())


def check_runtimes(names: Iterable[str]) -> None:
    """Raises UserError where packages are missing that running one of these formats here needs."""
    _check_installed({name: FORMATS[name].runtime for name in names}, "running")


def _check_installed(needed: Mapping[str, Iterable[str]], doing: str) -> None:
    for name, packages in needed.items():
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            raise UserError(f"format {name!r}: {doing} it needs {', '.join(missing)}: pip install '.[formats]'")
