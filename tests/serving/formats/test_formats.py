"""Other formats answer as the network that they are made of, each by its own runtime, and say what the export says."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import onnx
import openvino
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import number_types, table
from small_export import LABELS, SIZE, SPEC, expected
from tensorflow.lite.python import schema_py_generated as schema

import kcnn
from kcnn.data.input_pipeline.transform import Preprocessing
from kcnn.errors import UserError
from kcnn.models.taps import penultimate
from kcnn.nn.convolutions import GroupedConv
from kcnn.serving.export.folding import fold
from kcnn.serving.export.network import freeze
from kcnn.serving.formats.catalogue import FORMATS, choose_formats, present_formats, write_formats
from kcnn.serving.formats.source import OUTPUTS, make_source
from tests.models.networks import SMALLEST, calibrate, small
from tests.models.networks import images as network_images

OTHERS = [name for name in FORMATS if name != "savedmodel"]
SLOW = pytest.mark.slow
# Of an output, over the largest number in it.
TOLERANCES = {"tflite-float16": 5e-3, "tflite-dynamic": 0.1, "tflite-int8": 0.1}


def test_a_version_holds_the_formats_that_were_asked_for(exported):
    version, metadata = exported
    assert present_formats(version) == tuple(FORMATS)
    assert metadata["export"]["formats"] == list(FORMATS)
    assert sorted(path.name for path in version.parent.iterdir()) == ["1"]
    size = {name: FORMATS[name].file(version).stat().st_size for name in OTHERS}
    assert size["tflite-float16"] < 0.8 * size["onnx"]
    assert size["tflite-dynamic"] < size["tflite-float16"]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", OTHERS)
def test_formats_answer_as_the_network(exported, network, images, name, count):
    answer = FORMATS[name].family().load(FORMATS[name].file(exported[0]))
    got = answer(images[:count].astype(np.float32))
    wanted = expected(network, images[:count])
    assert list(got) == list(wanted)
    scale = {output: np.abs(array).max() for output, array in expected(network, images).items()}
    for output, array in wanted.items():
        assert (got[output].shape, got[output].dtype) == (array.shape, np.float32), output
        tolerance = TOLERANCES.get(name, 1e-5) * scale[output]
        np.testing.assert_allclose(got[output], array, atol=tolerance, err_msg=output)
    # 1/256, int8's steps of a probability, for each of the classes
    np.testing.assert_allclose(got["probabilities"].sum(axis=1), 1, atol=0.02 if name == "tflite-int8" else 1e-5)


def test_the_names_and_shapes_that_runtimes_see(exported):
    version, _ = exported
    model = onnx.load(FORMATS["onnx"].file(version))
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["N", *SIZE, 3], "probabilities": ["N", 5], "logits": ["N", 5], "embedding": ["N", 12]}
    operations = [node.op_type for node in model.graph.node]
    assert operations.count("Transpose") <= 2 < operations.count("Conv")  # into channels first, and once back
    assert "BatchNormalization" not in operations
    network = openvino.Core().read_model(FORMATS["openvino"].file(version))
    found = {tensor.get_any_name(): str(tensor.partial_shape) for tensor in (*network.inputs, *network.outputs)}
    assert found == {"images": "[?,24,32,3]", "probabilities": "[?,5]", "logits": "[?,5]", "embedding": "[?,12]"}
    assert list(found) == list(shapes)


@pytest.mark.parametrize("name", [name for name in OTHERS if name.startswith("tflite")])
def test_litert_takes_batches_without_signatures_too(exported, network, images, name):
    interpreter = Interpreter(str(FORMATS[name].file(exported[0])))
    for count in (1, 3):
        (taken,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(taken["index"], [count, *SIZE, 3])
        interpreter.allocate_tensors()
        interpreter.set_tensor(taken["index"], images[:count].astype(taken["dtype"]))
        interpreter.invoke()
        got = {one["name"]: interpreter.get_tensor(one["index"]) for one in interpreter.get_output_details()}
        for output, array in expected(network, images).items():
            np.testing.assert_allclose(got[output], array[:count], atol=TOLERANCES[name] * np.abs(array).max())
    assert taken["name"] == "images"
    assert list(got) == ["probabilities", "logits", "embedding"]


def test_int8_takes_pixels_and_computes_in_int8(exported):
    interpreter = Interpreter(str(FORMATS["tflite-int8"].file(exported[0])))
    (taken,) = interpreter.get_input_details()
    assert taken["dtype"] == np.uint8
    scale, zero_point = taken["quantization"]
    assert (round(scale, 6), zero_point) == (1, 0)
    assert all(one["dtype"] == np.float32 for one in interpreter.get_output_details())
    dtypes = [one["dtype"] for one in interpreter.get_tensor_details()]
    assert dtypes.count(np.int8) > 0.5 * len(dtypes)


def test_every_format_holds_the_metadata(exported):
    version, metadata = exported
    (entry,) = onnx.load(FORMATS["onnx"].file(version)).metadata_props
    network = openvino.Core().read_model(FORMATS["openvino"].file(version))
    told = [entry.value, network.get_rt_info("metadata").astype(str)]
    told.append(json.loads(FORMATS["tfjs"].file(version).read_text())["userDefinedMetadata"]["metadata"])
    for name in ("tflite-float16", "tflite-dynamic", "tflite-int8"):
        with zipfile.ZipFile(FORMATS[name].file(version)) as archive:
            assert archive.testzip() is None
            assert archive.read("labels.txt").decode().splitlines() == LABELS
            told.append(archive.read("metadata.json").decode())
    assert entry.key == "metadata"
    for one in told:
        assert json.loads(one) == json.loads(json.dumps(metadata))


@pytest.mark.parametrize("name", [name for name in OTHERS if name.startswith("tflite")])
def test_litert_finds_the_labels_by_the_metadata_schema(exported, name):
    """Read fields by their numbers in tflite-support's metadata_schema.fbs."""
    content = FORMATS[name].file(exported[0]).read_bytes()
    assert schema.Model.ModelBufferHasIdentifier(content, 0)
    model = schema.Model.GetRootAsModel(content, 0)
    entries = {model.Metadata(index).Name(): model.Metadata(index).Buffer() for index in range(model.MetadataLength())}
    packed = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
    assert packed[4:8] == b"M001"
    root = table.Table(packed, flatbuffers.encode.Get(number_types.UOffsetTFlags.packer_type, packed, 0))

    def vector(where, field):
        at = where.Offset(4 + 2 * field)
        return [
            table.Table(packed, where.Indirect(where.Vector(at) + 4 * index)) for index in range(where.VectorLen(at))
        ]

    def text(where, field):
        return where.String(where.Offset(4 + 2 * field) + where.Pos).decode()

    def child(where, field):
        return table.Table(packed, where.Indirect(where.Offset(4 + 2 * field) + where.Pos))

    def code(where, field, flags=number_types.Uint8Flags):
        return where.Get(flags, where.Offset(4 + 2 * field) + where.Pos)

    (graph,) = vector(root, 3)
    (images,), outputs = vector(graph, 2), vector(graph, 3)
    assert [text(tensor, 0) for tensor in (images, *outputs)] == ["images", "probabilities", "logits", "embedding"]
    (labels,) = vector(outputs[0], 6)
    assert (text(labels, 0), code(labels, 2)) == ("labels.txt", 2)
    content_of_images = child(images, 3)
    assert code(content_of_images, 0) == 2
    picture = child(content_of_images, 1)
    size = child(picture, 1)
    assert code(picture, 0) == 1
    assert [code(size, field, number_types.Uint32Flags) for field in (0, 1)] == [SIZE[1], SIZE[0]]
    (unit,) = vector(images, 4)
    assert code(unit, 0) == 1
    assert text(root, 7) == "1.0.0"


def test_litert_weights_are_aligned(exported):
    """Expect the alignment of force_align in TensorFlow's schema.fbs: some processors cannot read other weights."""
    content = FORMATS["tflite-float16"].file(exported[0]).read_bytes()
    model = schema.Model.GetRootAsModel(content, 0)
    weights = [model.Buffers(index).DataAsNumpy() for index in range(model.BuffersLength())]
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    placed = [one.__array_interface__["data"][0] - start for one in weights if isinstance(one, np.ndarray)]
    assert len(placed) > 5
    assert {place % 16 for place in placed} == {0}


@pytest.mark.parametrize(("word", "name"), [("onnxruntime", "onnx"), ("ai_edge_litert", "tflite-int8")])
def test_the_programs_of_the_guide_run(exported, network, images, monkeypatch, word, name):
    page = Path(__file__).parents[3].joinpath("docs/guides/export.md").read_text(encoding="utf-8")
    (program,) = (block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if word in block)
    # The program takes blank pixels; here it takes those of the images.
    program = "".join(line for line in program.splitlines(keepends=True) if not line.startswith("pixels = "))
    assert len(program.strip().splitlines()) <= 6
    monkeypatch.chdir(exported[0])
    found = {"pixels": images if name == "tflite-int8" else images.astype(np.float32)}
    exec(program, found)
    got = found["probabilities"] if "probabilities" in found else found["answers"]["probabilities"]
    np.testing.assert_allclose(
        got, expected(network, images)["probabilities"], atol=0.3 if name == "tflite-int8" else 1e-5
    )


@pytest.mark.parametrize(
    ("formats", "blocked", "message"),
    [
        (("onnx",), "tf2onnx", r"^format 'onnx': writing it needs tf2onnx: pip install '\.\[formats\]'$"),
        (("tflite-int8", "openvino"), "openvino", "^format 'openvino': writing it needs openvino: pip"),
        (("onyx",), None, "^format 'onyx': did you mean 'onnx'"),
        (("tflite-int8",), None, "^format 'tflite-int8': expected training images to calibrate it on"),
    ],
)
def test_what_cannot_be_written_is_said_before_any_work(network, tmp_path, monkeypatch, formats, blocked, message):
    if blocked:
        monkeypatch.setitem(sys.modules, blocked, None)
        with pytest.raises(ImportError):
            __import__(blocked)
    with pytest.raises(UserError, match=message):
        kcnn.export_classifier(network, tmp_path / "new" / "1", LABELS, SPEC, formats=formats, calibration=[b"none"])
    assert list(tmp_path.iterdir()) == []


def test_choosing_formats_loads_no_library():
    program = (
        "import sys, kcnn.serving.formats.catalogue as f; print(f.choose_formats(['onnx', 'tflite-int8'])); "
        "print({'tensorflow', 'onnx', 'tf2onnx', 'openvino', 'numpy'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["('savedmodel', 'onnx', 'tflite-int8')", "set()"]
    assert choose_formats(["savedmodel"]) == ("savedmodel",)


class Bessel(keras.layers.Layer):
    def call(self, inputs):
        return tf.math.bessel_i0e(inputs)


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("tfjs", GroupedConv(4, 3, groups=2), "TensorFlow.js has no operation for this network's Conv2D of groups"),
        ("tfjs", Bessel(), "TensorFlow.js has no operation for this network's BesselI0e"),
        ("onnx", Bessel(), "ONNX has no operation for this network's BesselI0e"),
        pytest.param("openvino", Bessel(), "OpenVINO has no operation for this network's BesselI0e", marks=SLOW),
        pytest.param("tflite-float16", Bessel(), "LiteRT has no operation for this network's tf.BesselI0e", marks=SLOW),
    ],
)
def test_a_network_that_a_format_cannot_hold_is_refused_by_the_operation(tmp_path, name, layer, message):
    inputs = keras.Input((8, 8, 3))
    x = layer(keras.layers.Conv2D(4, 1)(inputs))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    with pytest.raises(UserError, match=f"^format '{name}': {message}") as raised:
        kcnn.export_classifier(model, tmp_path / "1", ["a", "b"], Preprocessing((8, 8)), formats=[name])
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_calls_xla_is_refused(tmp_path):
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(4, 3, groups=2)(keras.layers.Conv2D(4, 1)(inputs))
    network = freeze(keras.Model(inputs, [keras.layers.GlobalAveragePooling2D()(x)] * 2))
    with pytest.raises(UserError, match=r"^formats other than savedmodel: this network calls _conv_xla"):
        make_source(network, 1.0, "{}", np.zeros((0, 8, 8, 3)), tmp_path / "source")


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory):
    """Install TensorFlow.js from npm."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm here")
    folder = tmp_path_factory.mktemp("tfjs")
    packages = [f"@tensorflow/tfjs-{name}@4.22.0" for name in ("core", "converter", "backend-cpu")]
    installed = subprocess.run(["npm", "install", "--prefix", folder, *packages], capture_output=True, check=False)
    if installed.returncode:
        pytest.skip("npm cannot fetch TensorFlow.js")
    return folder / "node_modules"


def by_tfjs(node_modules, folder, file, images):
    """Return the answers of TensorFlow.js."""
    given, answers = folder / "input.json", folder / "answers.json"
    given.write_text(json.dumps({"shape": images.shape, "data": images.ravel().tolist()}))
    program = Path(__file__).with_name("tfjs_answers.js")
    environment = {**os.environ, "NODE_PATH": str(node_modules)}
    subprocess.run(["node", program, file, given, answers], env=environment, check=True)
    answered = json.loads(answers.read_text())
    return {name: np.array(answered[name]["data"]).reshape(answered[name]["shape"]) for name in OUTPUTS}


@pytest.mark.slow
def test_tensorflow_js_answers_as_the_network(exported, network, images, node_modules, tmp_path):
    got = by_tfjs(node_modules, tmp_path, FORMATS["tfjs"].file(exported[0]), images.astype(np.float32))
    for output, array in expected(network, images).items():
        np.testing.assert_allclose(got[output], array, rtol=1e-4, atol=1e-5 * np.abs(array).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST.values())
def test_every_family_in_every_format(name, node_modules, tmp_path):
    """Compare the smallest of each family with its own answers.

    float32 must agree to rounding, or to the change that a millionth of the pixels makes in a network that magnifies
    it; float16 to the change that rounded weights make. Formats of 8 bits must be written and run, no more: deep
    networks of random weights magnify rounding.
    """
    keras.utils.set_random_seed(4)
    model = small(name)
    pixels = network_images(model, 8)
    calibrate(model, pixels)
    both = keras.Model(model.inputs, [model.outputs[0], penultimate(model).outputs[0]])

    def asked(pixels):
        return dict(zip(("logits", "embedding"), (part.numpy() for part in both([pixels])), strict=True))

    def distances(answer):
        """Return the distances from the network's own answers, over their length."""
        return {
            output: np.linalg.norm(answer[output] - array) / np.linalg.norm(array) for output, array in wanted.items()
        }

    wanted = asked(pixels)
    noise = np.random.default_rng(0).normal(scale=1e-6, size=pixels.shape).astype(np.float32)
    of_rounding = distances(asked(pixels * (1 + noise)))
    metadata = json.dumps({"labels": list("abcde"), "export": {"precision": "float32"}})
    made_of = make_source(fold(freeze(both)), 1.0, metadata, pixels, tmp_path / "source")
    for weight in model.weights:
        weight.assign(weight.numpy().astype(np.float16).astype(np.float32))
    of_float16 = distances(asked(pixels))
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    grouped = any(1 < layer.groups < layer.input.shape[-1] for layer in convolutions)  # not depthwise
    for other in OTHERS:
        file = FORMATS[other].file(tmp_path)
        if other == "tfjs" and grouped:
            with pytest.raises(UserError, match="Conv2D of groups"):
                write_formats([other], made_of, tmp_path)
            continue
        write_formats([other], made_of, tmp_path)
        got = FORMATS[other].family().load(file)(pixels)
        if other == "tfjs":
            got = by_tfjs(node_modules, tmp_path, file, pixels)
        for output, distance in distances(got).items():
            if other == "tflite-float16":
                assert distance < 3 * of_float16[output] + 1e-3, output
            elif other not in ("tflite-dynamic", "tflite-int8"):
                assert distance < max(1e-3, of_rounding[output]), (other, output)
