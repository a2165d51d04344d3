"""The transform in the layout of TensorFlow Transform, for `tensorflow_transform.TFTransformOutput`.

    <directory>/transform_fn/                        a SavedModel: the features of tf.Examples → image and label
    <directory>/transform_fn/assets/labels.txt       the class names, a line each: the vocabulary "labels"
    <directory>/transformed_metadata/schema.pbtxt    its outputs
    <directory>/transformed_metadata/asset_map       vocabulary → file of the assets
    <directory>/metadata/schema.pbtxt                its inputs

The layout and the content of the SavedModel follow `tensorflow_transform/output_wrapper.py` and
`saved/saved_transform_io_v2.py` of version 1.21.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow_metadata.proto.v0 import schema_pb2

from kcnn.data.input_pipeline.transform import Preprocessing, preprocess_batch
from kcnn.data.validation.schema import write_schema
from kcnn.errors import UserError

ENCODED, LABEL, FORMAT = "image/encoded", "image/class/label", "image/format"
VOCABULARY = "labels"
_DTYPES = {schema_pb2.BYTES: tf.string, schema_pb2.INT: tf.int64, schema_pb2.FLOAT: tf.float32}
_NOT_IN_EXAMPLES = {
    schema_pb2.DEPRECATED,
    schema_pb2.DISABLED,
    schema_pb2.PLANNED,
    schema_pb2.VALIDATION_DERIVED,
}


def write_transform_graph(
    directory: Path, preprocessing: Preprocessing, labels: Sequence[str], schema: schema_pb2.Schema
) -> None:
    """Write the layout. No image is read.

    Args:
        directory: an existing folder.
        preprocessing: how an image becomes one of the network's size.
        labels: the C class names, in the order of the class indices.
        schema: the schema of the examples.

    Raises:
        UserError: the schema lacks the encoded image or the class index, or gives them another type.
    """
    raw = _raw_schema(schema)
    metadata = {"metadata": raw, "transformed_metadata": _transformed_schema(preprocessing, len(labels))}
    for name, content in metadata.items():
        (directory / name).mkdir()
        write_schema(content, directory / name / "schema.pbtxt")
    (directory / "transformed_metadata" / "asset_map").write_text(json.dumps({VOCABULARY: f"{VOCABULARY}.txt"}))
    _save(directory / "transform_fn", preprocessing, labels, raw, webp=_has_webp(schema))


def _raw_schema(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """Return how to parse the examples: name, type and shape of each feature, and nothing that an edited range changes.

    A feature that every example has once is a scalar. Any other has no shape, and is parsed to a sparse tensor.
    """
    raw = schema_pb2.Schema()
    for feature in schema.feature:
        if feature.lifecycle_stage in _NOT_IN_EXAMPLES:
            continue
        kept = raw.feature.add(name=feature.name, type=feature.type)
        if feature.presence.min_fraction == 1.0 and feature.value_count.min == feature.value_count.max == 1:
            kept.presence.min_fraction = 1.0
            kept.shape.SetInParent()
    found = {feature.name: feature for feature in raw.feature}
    for name, expected in ((ENCODED, schema_pb2.BYTES), (LABEL, schema_pb2.INT)):
        if name not in found or found[name].type != expected or not found[name].HasField("shape"):
            kind = schema_pb2.FeatureType.Name(expected)
            raise UserError(f"the schema's feature {name!r}: expected {kind}, in every example once")
    return raw


def _transformed_schema(preprocessing: Preprocessing, classes: int) -> schema_pb2.Schema:
    schema = schema_pb2.Schema()
    image = schema.feature.add(name="image", type=schema_pb2.FLOAT)
    label = schema.feature.add(name="label", type=schema_pb2.INT)
    for side in (*preprocessing.image_size, 3):
        image.shape.dim.add(size=side)
    label.shape.SetInParent()
    label.int_domain.CopyFrom(schema_pb2.IntDomain(name="label", min=0, max=classes - 1, is_categorical=True))
    for feature in (image, label):
        feature.presence.min_fraction = 1.0
    return schema


def _has_webp(schema: schema_pb2.Schema) -> bool:
    """Return whether the schema allows WebP; TFX 1.16 reads the graph too where it does not."""
    domains = {domain.name: domain.value for domain in schema.string_domain}
    formats = [domains[f.domain] for f in schema.feature if f.name == FORMAT and f.domain in domains]
    return not formats or "WEBP" in formats[0]


def _save(
    directory: Path, preprocessing: Preprocessing, labels: Sequence[str], raw: schema_pb2.Schema, *, webp: bool
) -> None:
    """Save a SavedModel with a function `transform_fn`, from a batch of raw features by name to the transformed ones.

    The transformed features are `image`, float32 [N, h, w, 3], and `label`, int64 [N].
    """

    def specification(feature: schema_pb2.Feature) -> tf.TypeSpec:
        dtype = _DTYPES[feature.type]
        return tf.TensorSpec([None], dtype) if feature.HasField("shape") else tf.SparseTensorSpec([None, None], dtype)

    @tf.function(input_signature=[{feature.name: specification(feature) for feature in raw.feature}], autograph=False)
    def transform_fn(features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {
            "image": preprocess_batch(features[ENCODED], preprocessing, webp),
            "label": tf.identity(features[LABEL]),
        }

    module = tf.Module()
    module.transform_fn = transform_fn.get_concrete_function()
    with tempfile.TemporaryDirectory() as temporary:
        vocabulary = Path(temporary, f"{VOCABULARY}.txt")
        vocabulary.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        module.assets = [tf.saved_model.Asset(str(vocabulary))]
        tf.saved_model.save(module, str(directory))
