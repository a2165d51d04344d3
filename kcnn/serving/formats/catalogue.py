"""The formats that an export can be written in: the table FORMATS, and what writing and running them needs."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from kcnn.errors import UserError, nearest

if TYPE_CHECKING:
    import numpy as np

    from kcnn.serving.formats.source import FormatSource


class FormatFamily(Protocol):
    """A module that writes formats and runs them."""

    def write(self, name: str, source: "FormatSource", file: Path) -> None:
        """Write a format; its folder exists. Raises UserError for a network that the format cannot hold."""

    def load(self, file: Path) -> "Callable[[np.ndarray], dict[str, np.ndarray]]":
        """Return the function of a file: float32 [N, h, w, 3] → output → array."""

    def read_metadata(self, file: Path) -> str:
        """Return the export's JSON that a file holds."""


# Imported when they are needed: each imports the packages of its format.
def _onnx() -> FormatFamily:
    from kcnn.serving.formats import onnx

    return onnx


def _openvino() -> FormatFamily:
    from kcnn.serving.formats import openvino

    return openvino


def _tflite() -> FormatFamily:
    from kcnn.serving.formats import tflite

    return tflite


def _tfjs() -> FormatFamily:
    from kcnn.serving.formats import tfjs

    return tfjs


@dataclasses.dataclass(frozen=True)
class Format:
    """A row of FORMATS.

    Attributes:
        path: the file that a runtime loads, below the version's folder.
        family: gives the module that writes it and runs it; None for the SavedModel, which
            `kcnn.serving.export.classifier` writes.
        packages: the packages that writing it imports, beyond those that kcnn needs.
        runtime: the packages that running it here imports, beyond those that kcnn needs.
        calibrated: whether it takes training images to find the ranges of activations.
    """

    path: str
    family: Callable[[], FormatFamily] | None = None
    packages: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    calibrated: bool = False

    def file(self, version: Path) -> Path:
        """Return the path of the format's file in a version's folder."""
        return version / self.path


_LITERT = ("ai_edge_litert",)
FORMATS = {
    "savedmodel": Format("saved_model.pb"),
    "onnx": Format("assets.extra/onnx/model.onnx", _onnx, ("onnx", "tf2onnx"), ("onnxruntime",)),
    "openvino": Format("assets.extra/openvino/model.xml", _openvino, ("openvino",), ("openvino",)),
    "tflite-float16": Format("assets.extra/tflite-float16/model.tflite", _tflite, runtime=_LITERT),
    "tflite-dynamic": Format("assets.extra/tflite-dynamic/model.tflite", _tflite, runtime=_LITERT),
    "tflite-int8": Format("assets.extra/tflite-int8/model.tflite", _tflite, runtime=_LITERT, calibrated=True),
    "tfjs": Format("assets.extra/tfjs/model.json", _tfjs),
}


def choose_formats(names: Iterable[str]) -> tuple[str, ...]:
    """Return the formats of these names, each once, in the order of FORMATS, always with "savedmodel".

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


def present_formats(version: Path) -> tuple[str, ...]:
    """Return the formats that a version's folder holds, in the order of FORMATS."""
    return tuple(name for name, row in FORMATS.items() if row.file(version).is_file())


def write_formats(names: Iterable[str], source: "FormatSource", version: Path) -> None:
    """Write formats into a version's folder, which holds the SavedModel.

    Raises:
        UserError: a format cannot hold this network.
    """
    for name in names:
        row = FORMATS[name]
        if row.family is not None:
            row.file(version).parent.mkdir(parents=True)
            row.family().write(name, source, row.file(version))


def check_format_runtimes(names: Iterable[str]) -> None:
    """Raise UserError where packages are missing that running one of these formats here needs."""
    _check_installed({name: FORMATS[name].runtime for name in names}, "running")


def _check_installed(needed: Mapping[str, Iterable[str]], doing: str) -> None:
    for name, packages in needed.items():
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            raise UserError(f"format {name!r}: {doing} it needs {', '.join(missing)}: pip install '.[formats]'")
