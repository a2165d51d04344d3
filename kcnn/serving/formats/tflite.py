"""LiteRT (TensorFlow Lite), by TensorFlow's converter: weights in float16, in int8, or all in int8.

With TensorFlow Lite Metadata (https://ai.google.dev/edge/litert/conversion/tensorflow/metadata): what the input is, and
the export's `labels.txt` and `metadata.json` in a zip at the end of the file: `unzip -l model.tflite` lists them.
"""

import io
import os
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated

from kcnn.errors import UserError
from kcnn.plain_paths import plain_path
from kcnn.serving.export.network import IMAGES
from kcnn.serving.formats.source import OUTPUTS, FormatSource
from kcnn.startup import quietly

# Format → attributes of the converter.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "tflite-float16": {"target_spec": tf.lite.TargetSpec(supported_types=[tf.float16])},
    "tflite-dynamic": {},
    # Pixels come as they are in a file. Outputs are converted to float32, so that no reader has to look up scales.
    # Operations without a kernel for int8 stay float32.
    "tflite-int8": {
        "target_spec": tf.lite.TargetSpec(
            supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        ),
        "inference_input_type": tf.uint8,
        "inference_output_type": tf.float32,
    },
}
_ALIGNMENT = 16  # bytes, of weights; force_align in TensorFlow's schema.fbs, which Python's builder does not know


def write(name: str, source: FormatSource, file: Path) -> None:
    """Write the model with one of SETTINGS. int8 takes pixels as they are: uint8 of scale 1 and zero point 0."""
    with plain_path(source.saved_model) as path:
        converted = _convert(name, path, source.calibration)
    file.write_bytes(_described(converted, source))


def _convert(name: str, saved_model: str, calibration: np.ndarray) -> bytes:
    """Return the converted model; raise UserError where it has operations that LiteRT lacks."""
    converter = tf.lite.TFLiteConverter.from_saved_model(saved_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    for setting, value in SETTINGS[name].items():
        setattr(converter, setting, value)
    if name == "tflite-int8":
        converter.representative_dataset = lambda: _calibration(calibration)
    try:
        with quietly():
            return converter.convert()
    except Exception as error:  # of many kinds, ConverterError and RuntimeError among them
        ops = re.findall(r"'(tf\.\w+)' op is|op: '?(\w+)", str(error))
        unknown = ", ".join(sorted({"".join(found) for found in ops})) or str(error).partition("\n")[0]
        raise UserError(f"format {name!r}: LiteRT has no operation for this network's {unknown}") from error


def _calibration(images: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Yield each image on its own. The first gets a black and a white pixel, so that the input spans 0 to 255."""
    first = images[:1].copy()
    first[0, 0, 0], first[0, -1, -1] = 0, 255
    yield [first]
    yield from ([image[None]] for image in images[1:])


class _Builder(flatbuffers.Builder):
    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        """Start a vector, aligned as weights need it: any vector may hold weights."""
        return super().StartVector(elemSize, numElems, max(alignment, _ALIGNMENT))


def _described(converted: bytes, source: FormatSource) -> bytes:
    """Return the model with metadata, and with its outputs in the order of OUTPUTS and under their names."""
    model = schema_py_generated.ModelT.InitFromObj(schema_py_generated.Model.GetRootAsModel(converted, 0))
    (graph,), (signature,) = model.subgraphs, model.signatureDefs
    index = {tensor.name.decode(): tensor.tensorIndex for tensor in (*signature.inputs, *signature.outputs)}
    graph.outputs = [index[output] for output in OUTPUTS]
    for name in (IMAGES, *OUTPUTS):
        graph.tensors[index[name]].name = name
    _, height, width, _ = graph.tensors[index[IMAGES]].shape
    buffer = schema_py_generated.BufferT()
    buffer.data = np.frombuffer(_model_metadata(height, width), np.uint8)
    entry = schema_py_generated.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    builder = _Builder(len(converted))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    file = io.BytesIO()
    file.write(builder.Output())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("labels.txt", "".join(f"{label}\n" for label in source.labels))
        archive.writestr("metadata.json", source.metadata)
    return file.getvalue()


def _model_metadata(height: int, width: int) -> bytes:
    """Return a ModelMetadata of tflite-support's metadata_schema.fbs.

    Fields are numbered in the order of that file. So are the members of enums, and of unions from 1. The kind of a
    union is a field of its own before the value.
    """
    builder = flatbuffers.Builder()

    def table(offsets: Mapping[int, int], codes: Mapping[int, int] | None = None) -> int:
        codes = codes or {}
        builder.StartObject(1 + max((*offsets, *codes), default=0))
        for field, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        for field, code in codes.items():
            builder.PrependUint8Slot(field, code, 0)
        return builder.EndObject()

    def tables(*offsets: int) -> int:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()

    def floats(*values: float) -> int:
        return builder.CreateNumpyVector(np.array(values, np.float32))

    text = builder.CreateString
    builder.StartObject(2)  # ImageSize
    for field, side in enumerate((width, height)):
        builder.PrependUint32Slot(field, side, 0)
    size = builder.EndObject()

    associated = {
        name: table({0: text(name), 1: text(description)}, {2: kind})
        for name, description, kind in (
            ("labels.txt", "The names of the classes, one a line.", 2),  # TENSOR_AXIS_LABELS
            ("metadata.json", "What the export knows: preprocessing, calibration, training run, versions.", 1),
        )
    }
    picture = table({1: table({1: size}, {0: 1})}, {0: 2})  # Content of ImageProperties, RGB
    numbers = table({1: table({})}, {0: 1})  # Content of FeatureProperties
    as_it_is = table({1: table({0: floats(0), 1: floats(1)})}, {0: 1})  # ProcessUnit of NormalizationOptions
    images = {
        0: text(IMAGES),
        1: text("RGB of 0 to 255, resized and cropped as metadata.json says."),
        3: picture,
        4: tables(as_it_is),
        5: table({0: floats(255), 1: floats(0)}),  # Stats
    }
    labelled = {"probabilities": {6: tables(associated["labels.txt"])}}
    answers = [table({0: text(output), 3: numbers, **labelled.get(output, {})}) for output in OUTPUTS]
    subgraph = table({2: tables(table(images)), 3: tables(*answers)})
    model = table({0: text("kcnn"), 3: tables(subgraph), 6: tables(associated["metadata.json"]), 7: text("1.0.0")})
    builder.Finish(model, file_identifier=b"M001")
    return bytes(builder.Output())


def read_metadata(file: Path) -> str:
    """Return the export's JSON."""
    with zipfile.ZipFile(file) as archive:
        return archive.read("metadata.json").decode()


def load(file: Path) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return the function float32 [N, h, w, 3] → outputs, by LiteRT on the CPU; uint8 models get rounded pixels."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file), num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner()
    dtype = runner.get_input_details()[IMAGES]["dtype"]

    def answer(images: np.ndarray) -> dict[str, np.ndarray]:
        given = images if dtype == np.float32 else np.rint(images).astype(dtype)
        answered = runner(**{IMAGES: given})
        return {output: answered[output] for output in OUTPUTS}

    return answer
