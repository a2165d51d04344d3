"""Transform: what it settles, and that its graph makes of the same bytes what training and the export make of them."""

import io
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_metadata.proto.v0 import schema_pb2

import kcnn
from kcnn.data import examples
from kcnn.data.datasets.opening import open_dataset
from kcnn.data.ingestion.summary import Summary
from kcnn.data.input_pipeline.transform import Preprocessing, preprocess
from kcnn.data.input_pipeline.transform_graph import write_transform_graph
from kcnn.errors import UserError
from kcnn.serving.export.classifier import export_classifier
from kcnn.training.adaptation import choose_preprocessing
from pipelines.artifacts.transform import TransformGraph
from pipelines.components.example_gen import example_gen
from pipelines.components.schema_gen import schema_gen
from pipelines.components.statistics_gen import statistics_gen
from pipelines.components.transform import transform
from pipelines.engine import runner
from pipelines.engine.component import Artifact, Output, component

SPEC = Preprocessing((24, 32), crop_fraction=0.8)
LABELS = ["cat", "naïve café", "日本語"]
SCHEMA = """
feature { name: "image/encoded" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "image/class/label" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "image/format" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 } domain: "kinds" }
feature { name: "image/column/site" type: BYTES presence { min_count: 1 } value_count { min: 1 max: 1 } }
feature { name: "image/brightness" type: FLOAT lifecycle_stage: VALIDATION_DERIVED }
feature { name: "image/old" type: FLOAT lifecycle_stage: DEPRECATED }
string_domain { name: "kinds" value: "JPEG" value: "PNG" }
"""


def schema(text=SCHEMA):
    return text_format.Parse(text, schema_pb2.Schema())


def picture(format, size, seed=0):
    blocks = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC).save(file, format)
    return file.getvalue()


def write_all(folder, of_examples):
    """Write all files of the artifact, as the component does."""
    TransformGraph(folder).write_preprocessing(SPEC)
    write_transform_graph(folder, SPEC, LABELS, of_examples)


@pytest.fixture
def graph(tmp_path):
    write_all(tmp_path, schema())
    return TransformGraph(tmp_path)


def batch(encoded, labels):
    return {
        "image/encoded": tf.constant(encoded),
        "image/class/label": tf.constant(labels, tf.int64),
        "image/format": tf.constant([b"?"] * len(encoded)),
        "image/column/site": tf.sparse.from_dense([[b"here"]] * len(encoded)),
    }


class Size(Artifact):
    """What is taken of a transform here."""


@component
def settled(transform_graph: Output[TransformGraph]) -> None:
    write_all(transform_graph.path, schema())


@component
def taker(transform_graph: TransformGraph, size: Output[Size]) -> None:
    (size.path / "size").write_text(str(transform_graph.preprocessing().image_size))


def test_made_again_it_is_the_same_to_what_takes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "digest_files", lambda files: "this program")
    graph = settled()
    nodes = [graph, taker(transform_graph=graph.outputs["transform_graph"])]
    first = runner.run_nodes(nodes, tmp_path)["Settled"]["transform_graph"].path
    saved = (first / "transform_fn" / "saved_model.pb").read_bytes()
    shutil.rmtree(first)
    second = runner.run_nodes(nodes, tmp_path)["Settled"]["transform_graph"].path
    assert (second / "transform_fn" / "saved_model.pb").read_bytes() != saved  # by TensorFlow's count of functions
    said = capsys.readouterr().out
    assert said.count("Settled: done") == 2
    assert "Taker: unchanged" in said


def test_its_pixels_are_those_of_training_and_of_the_export(graph, tmp_path):
    encoded = [
        picture("JPEG", (60, 40)),
        picture("PNG", (33, 71), 2),
        picture("BMP", (64, 9), 3),
        picture("JPEG", (900, 600), 4),
    ]
    loaded = tf.saved_model.load(str(graph.path / "transform_fn"))
    made = loaded.transform_fn(batch(encoded, [2, 0, 1, 2]))
    assert made["image"].shape == (4, 24, 32, 3)
    assert made["image"].dtype == tf.float32
    assert made["label"].numpy().tolist() == [2, 0, 1, 2]
    for image, data in zip(made["image"], encoded, strict=True):
        np.testing.assert_array_equal(image, preprocess(tf.constant(data), SPEC))

    # A model that answers with the mean of each channel shows what pixels the export gives it.
    inputs = keras.Input((24, 32, 3))
    channels = keras.layers.GlobalAveragePooling2D()(inputs)
    export_classifier(keras.Model(inputs, keras.layers.Rescaling(0.05)(channels)), tmp_path / "export", LABELS, SPEC)
    answer = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"](
        image_bytes=tf.constant(encoded)
    )
    expected = tf.nn.softmax(0.05 * tf.reduce_mean(made["image"], axis=[1, 2]))
    np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)


def test_the_layout_is_tensorflow_transforms(graph):
    """As `TFTransformOutput` of tensorflow_transform 1.21 reads it."""
    assert json.loads((graph.path / "transformed_metadata" / "asset_map").read_text()) == {"labels": "labels.txt"}
    assert (graph.path / "transform_fn" / "assets" / "labels.txt").read_text(encoding="utf-8").splitlines() == LABELS
    raw, made = (
        {feature.name: feature for feature in schema((graph.path / folder / "schema.pbtxt").read_text()).feature}
        for folder in ("metadata", "transformed_metadata")
    )
    assert {name: (feature.type, feature.HasField("shape")) for name, feature in raw.items()} == {
        "image/encoded": (schema_pb2.BYTES, True),
        "image/class/label": (schema_pb2.INT, True),
        "image/format": (schema_pb2.BYTES, True),
        "image/column/site": (schema_pb2.BYTES, False),
    }
    assert [dim.size for dim in made["image"].shape.dim] == [24, 32, 3]
    assert (made["label"].int_domain.min, made["label"].int_domain.max) == (0, 2)
    # Its loader takes the one dict of the first positional argument, and calls with the tensors in the dict's order.
    loaded = tf.saved_model.load(str(graph.path / "transform_fn")).transform_fn
    ((features,), rest) = loaded.structured_input_signature
    assert not rest
    assert features.keys() == raw.keys()
    flat = tf.nest.flatten(batch([picture("PNG", (9, 9))], [1]), expand_composites=True)
    assert loaded(*flat)["label"].numpy().tolist() == [1]
    assert graph.preprocessing() == SPEC


@pytest.mark.parametrize("allowed", [True, False])
def test_webp_is_in_the_graph_where_the_schema_allows_it(tmp_path, allowed):
    """TensorFlow 2.16, which TFX 1.16 runs on, has no op for it, and loads no graph that names one."""
    text = SCHEMA.replace('value: "PNG"', 'value: "WEBP"') if allowed else SCHEMA
    write_all(tmp_path, schema(text))
    saved = saved_model_pb2.SavedModel.FromString((tmp_path / "transform_fn" / "saved_model.pb").read_bytes())
    library = saved.meta_graphs[0].graph_def.library.function
    assert ("DecodeWebP" in {node.op for function in library for node in function.node_def}) == allowed
    if allowed:
        data = picture("WEBP", (40, 30))
        made = tf.saved_model.load(str(tmp_path / "transform_fn")).transform_fn(batch([data], [0]))
        np.testing.assert_array_equal(made["image"][0], preprocess(tf.constant(data), SPEC))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (SCHEMA.replace("image/encoded", "image/bytes"), "'image/encoded': expected BYTES, in every example once"),
        (SCHEMA.replace("type: INT", "type: FLOAT"), "'image/class/label': expected INT"),
        (SCHEMA.replace("presence { min_fraction: 1 }", ""), "in every example once"),
    ],
)
def test_a_schema_without_image_or_label(tmp_path, wrong, words):
    with pytest.raises(UserError, match=words):
        write_all(tmp_path, schema(wrong))


@pytest.mark.parametrize(
    ("model", "side", "asked", "size", "crop"),
    [
        ("mobilenetv2", 8, None, 64, 1.0),
        ("mobilenetv2", 400, None, 224, 0.875),
        ("mobilenetv2", 100, None, 224, 1.0),
        ("mobilenetv2", 400, 96, 96, 0.875),
        ("inceptionv3", 8, None, 75, 1.0),
    ],
)
def test_size_and_crop_follow_from_network_and_images(model, side, asked, size, crop):
    summary = Summary(("a", "b"), {}, {}, (), mean_bytes=1000, median_side=side, mirror=True)
    spec = choose_preprocessing(kcnn.model_spec(model), summary, asked)
    assert (spec.image_size, spec.crop_fraction) == ((size, size), crop)


def test_the_component_reads_no_image_and_parses_what_example_gen_wrote(tmp_path, monkeypatch):
    fingerprint = open_dataset("digits").fingerprint
    made_examples = example_gen(dataset="digits", data_dir=None, offline=True, fingerprint=fingerprint, labelled=True)
    statistics = statistics_gen(examples=made_examples.outputs["examples"])
    schema_node = schema_gen(statistics=statistics.outputs["statistics"])
    ports = {"examples": made_examples.outputs["examples"], "schema": schema_node.outputs["schema"]}
    nodes = [made_examples, statistics, schema_node]
    runner.run_nodes(nodes, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(examples, "read_examples", lambda paths: pytest.fail("reads the examples"))
        made = runner.run_nodes([*nodes, transform(model="mobilenetv2", image_size=None, **ports)], tmp_path)
    graph = made["Transform"]["transform_graph"]
    assert graph.preprocessing() == Preprocessing((64, 64), crop_fraction=1.0)

    raw = schema((graph.path / "metadata" / "schema.pbtxt").read_text())
    dtypes = {schema_pb2.BYTES: tf.string, schema_pb2.INT: tf.int64}
    specification = {feature.name: tf.io.FixedLenFeature([], dtypes[feature.type]) for feature in raw.feature}
    shards = made["ExampleGen"]["examples"].shards("test")
    records = next(iter(examples.read_examples(shards).batch(32).as_numpy_iterator()))
    result = tf.saved_model.load(str(graph.path / "transform_fn")).transform_fn(
        tf.io.parse_example(records, specification)
    )
    for record, image, label in zip(records, result["image"], result["label"], strict=True):
        example = examples.parse_example(record)
        np.testing.assert_array_equal(image, preprocess(example["encoded"], graph.preprocessing()))
        assert label == example["label"]
